"""Forbidden actions: settings of a mask in a training by PPO, and the record of where it intervened."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.rl.extension import Extension, add_callback, wrap_env
from raysafe.runtime.functions import load_function

if TYPE_CHECKING:
    import gymnasium as gym
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.rl.job import RLJob
    from raysafe.runtime.report import Section
    from raysafe.runtime.run import Run

INTERVENTIONS = "masking/interventions"
FOLDER = "interventions"
SCHEMA = pa.schema(
    [
        pa.field("episode", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("observation", pa.list_(pa.float32()), nullable=False),
        pa.field("intended", pa.int64(), nullable=False),
        pa.field("done", pa.int64(), nullable=False),
    ]
)
"""One row for each time that the policy drew an action that was forbidden: what was seen (its last places are the
mask), which action it would have taken, and which it took instead."""


class MaskingSettings(Config):
    """Actions that aren't allowed are never taken, in training and in evaluations."""

    function: str | None = Field(
        default=None,
        description="module:function of the environment, which returns a flag for each action, 1 where it is allowed "
        "where the environment stands; by default the mask is info['action_mask'], or the observation's own.",
    )

    def extension(self, job: RLJob) -> Masking:
        if job.algorithm != "ppo":
            raise ConfigError(f"masking is for algorithm ppo, got {job.algorithm}: it is PPO's policy that is masked")
        if job.sampling.normalise:
            raise ConfigError("masking needs observations as they are: leave sampling.normalise out")
        return Masking(self)


class Masking(Extension):
    """Wraps all environments, masks the policy's logits, and writes `interventions/<step>.arrow` in the run."""

    run: Run | None = None

    def __init__(self, settings: MaskingSettings) -> None:
        if settings.function is not None:
            load_function(settings.function, "masking.function")
        self.settings = settings
        self.total = 0

    def begin(self, run: Run) -> None:
        self.run = run

    def apply(self, config: AlgorithmConfig) -> None:
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec

        from raysafe.rl.lagrangian import CostCritic
        from raysafe.rl.masked_policy import MaskedCostCritic, MaskedPolicy
        from raysafe.rl.masking_callback import KeepInterventions

        wrap_env(config, partial(masked_env, function=self.settings.function), evaluated=True)
        present = getattr(config._rl_module_spec, "module_class", None)
        policy = MaskedCostCritic if present is CostCritic else MaskedPolicy
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=policy))
        add_callback(config, KeepInterventions)

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        """The rows of the iteration, written under its step: a training that is resumed writes them anew."""
        from raysafe.rl.masking_callback import take

        assert algorithm.env_runner_group is not None
        rows = [row for found in algorithm.env_runner_group.foreach_env_runner(take) for row in found]
        if rows and self.run is not None:
            self.run.folder.write(f"{FOLDER}/{step:012d}.arrow", arrow(rows))
        self.total += len(rows)
        return {INTERVENTIONS: float(self.total)}

    def state(self) -> dict[str, Any]:
        return {"total": self.total}

    def set_state(self, state: dict[str, Any]) -> None:
        self.total = int(state["total"])

    def sections(self, run: Run) -> list[Section]:
        from raysafe.runtime.report import Section

        counted = [int(row[INTERVENTIONS]) for row in run.metrics if INTERVENTIONS in row]
        text = f"A forbidden action was drawn and another taken {counted[-1] if counted else 0:,} times in training."
        return [Section("Masked actions", f"{text} Each is a row of {FOLDER}/.")]


def masked_env(env: gym.Env, function: str | None) -> gym.Env:
    """The environment with its mask behind each observation."""
    from raysafe.rl.mask_wrapper import Masked

    return Masked(env, load_function(function, "masking.function") if function else None)


def arrow(rows: list[dict[str, Any]]) -> bytes:
    """An Arrow file of interventions."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return sink.getvalue().to_pybytes()
