"""Job classes by the name that config.yaml gives them; a job's module is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from raysafe.config import Job
from raysafe.errors import ConfigError

JOBS = {
    "scratch": "raysafe.alignment.scratch:ScratchJob",
    "sft": "raysafe.alignment.sft:SFTJob",
    "reward-model": "raysafe.alignment.reward_model:RewardModelJob",
    "dpo": "raysafe.alignment.dpo:DPOJob",
    "ppo": "raysafe.alignment.ppo:PPOJob",
    "grpo": "raysafe.alignment.grpo:GRPOJob",
    "classifier": "raysafe.generalization.classifier:ClassifierJob",
    "rl": "raysafe.rl.job:RLJob",
    "irl": "raysafe.irl.job:IRLJob",
    "self-play": "raysafe.rl.self_play:SelfPlayJob",
    "adversarial": "raysafe.robustness.job:AdversarialJob",
    "transfer": "raysafe.generalization.transfer:TransferJob",
    "continual": "raysafe.generalization.continual:ContinualJob",
    "evaluate": "raysafe.evaluation.job:EvaluateJob",
    "sweep": "raysafe.evaluation.sweep.job:SweepJob",
    "quickstart": "raysafe.quickstart.demo:Quickstart",
}


def load_job(name: str) -> type[Job]:
    """The class of a job; raises ConfigError for a name that is none."""
    if name not in JOBS:
        raise ConfigError(f"'{name}' is no job; known jobs: {', '.join(JOBS)}")
    module, _, attribute = JOBS[name].partition(":")
    return getattr(import_module(module), attribute)
