"""An agent's policies over its training, from the checkpoints that its run kept."""

from __future__ import annotations

from collections.abc import Iterator

from raysafe.errors import DataError, ModelError
from raysafe.rl.agent import Exportable
from raysafe.rl.checkpoint import complete_steps, read
from raysafe.rl.job import RLJob
from raysafe.rl.policy import Policy
from raysafe.rl.settings import SamplingSettings
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder


def kept_steps(model: str) -> tuple[Run, list[int]]:
    """The run of `raysafe rl` and the steps of its checkpoints; raises StorageError or DataError where it is none."""
    run = Run.open(model)
    kind = run.config.get("job")
    if kind != RLJob.job:
        raise DataError(f"{model} is a run of {kind}: checkpoints of policies are those of `raysafe rl`")
    return run, complete_steps(run)


def keeps_checkpoints(model: str) -> bool:
    """Whether it is a run with at least two, rather than a model's folder."""
    return (
        Folder(model).exists("config.yaml")
        and Run.open(model).config.get("job") == RLJob.job
        and (len(complete_steps(Run.open(model))) > 1)
    )


def policies_over_training(model: str, least: int = 2) -> Iterator[tuple[int, Policy]]:
    """Environment steps and the policy then, of each checkpoint in order.

    Raises DataError where fewer than `least` were kept, ModelError where the policies aren't networks.
    """
    run, steps = kept_steps(model)
    if len(steps) < least:
        raise DataError(
            f"{model} kept {len(steps)} checkpoints, and {least} are needed: train with keep_checkpoints 1000"
        )
    settings = {name: value for name, value in run.config.items() if name != "job"}
    job = RLJob.parse(settings, f"{model}/config.yaml")
    # what sampled and learned in other processes is restored in this one
    alone = SamplingSettings(envs=1, normalise=job.sampling.normalise)
    agent = job.model_copy(update={"address": None, "sampling": alone}).agent()
    try:
        if not isinstance(agent, Exportable):
            raise ModelError(f"{model}: a policy of {job.algorithm} is no network, so nothing can be asked of it")
        for step in steps:
            position, state = read(run, step)
            agent.restore(state, position)
            yield step, agent.policy({"env": job.env, "algorithm": job.learned_by, "run": run.name, "steps": step})
    finally:
        agent.close()
