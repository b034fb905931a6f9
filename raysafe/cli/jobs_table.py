"""Job classes by the name that config.yaml gives them."""

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
    "rl": "raysafe.rl.job:RLJob",
    "irl": "raysafe.irl.job:IRLJob",
    "self-play": "raysafe.rl.self_play:SelfPlayJob",
    "adversarial": "raysafe.robustness.job:AdversarialJob",
    "evaluate": "raysafe.evaluation.job:EvaluateJob",
    "quickstart": "raysafe.quickstart.demo:Quickstart",
}


def load_job(name: str) -> type[Job]:
    """The class of a job; raises ConfigError for a name that is none."""
    if name not in JOBS:
        raise ConfigError(f"'{name}' is no job; known jobs: {', '.join(JOBS)}")
    module, _, attribute = JOBS[name].partition(":")
    return getattr(import_module(module), attribute)


def start(name: str, argv: list[str], *, positional: str | None = None) -> int:
    """Run a job from its command line; one that this machine can't hold is refused before anything slow is imported."""
    from raysafe.cli.early import check_resources
    from raysafe.cli.job import run_job

    check_resources(argv)
    return run_job(load_job(name), argv, positional=positional)
