"""A penalty for side effects in a training: settings, and the wrapper that charges it.

In the problems of raysafe/ the penalty is exact: the problem's states are enumerated, and what is attainable is so in
its world, which doesn't end where an episode does. Elsewhere it is attainable utility with auxiliary action values that
the user has, learned beforehand: the mean over K of |Q_k(s, a) - Q_k(s, noop)|.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError, DataError
from raysafe.rl.extension import Extension, wrap_env
from raysafe.rl.mdp import Floats
from raysafe.rl.side_effects import (
    CHANGE,
    DECREASE,
    Baseline,
    attainable_utilities,
    penalties,
    random_auxiliaries,
    reachability,
)
from raysafe.runtime.functions import load_function

if TYPE_CHECKING:
    import gymnasium as gym
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.rl.envs.problem import Problem
    from raysafe.rl.job import RLJob
    from raysafe.runtime.report import Section
    from raysafe.runtime.run import Run


class SideEffectsSettings(Config):
    """What an action changes for good, beyond what doing nothing would, is charged in training."""

    measure: Literal["relative reachability", "attainable utility"] = Field(
        default="relative reachability",
        description="Loss of states that could be reached (Krakovna et al. 2019), or change of what could be attained "
        "of auxiliary rewards (Turner et al. 2020).",
    )
    baseline: Baseline = Field(default="stepwise inaction", description="What an action's outcome is compared with.")
    weight: float = Field(default=50.0, ge=0, allow_inf_nan=False, description="Reward per unit of the penalty.")
    gamma: float = Field(default=0.99, gt=0, lt=1, description="Discount of what can be reached or attained.")
    noop: int = Field(default=4, ge=0, description="The action that does nothing.")
    rollout: int = Field(default=0, ge=0, description="Further steps of inaction that both sides are followed for.")
    auxiliaries: int = Field(default=20, ge=1, description="Random rewards of attainable utility.")
    auxiliary_q: str | None = Field(
        default=None,
        description="module:function of an observation that returns auxiliary action values (K, A): for environments "
        "whose states can't be enumerated.",
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.auxiliary_q and (self.measure, self.baseline) != ("attainable utility", "stepwise inaction"):
            raise ValueError(
                "auxiliary_q gives attainable utility against stepwise inaction: set measure to 'attainable utility' "
                f"and leave the baseline, got {self.measure!r} and {self.baseline!r}"
            )
        if self.rollout and self.baseline != "stepwise inaction":
            raise ValueError(f"rollout belongs to the baseline 'stepwise inaction', got {self.baseline!r}")
        return self

    def extension(self, job: RLJob) -> SideEffects:
        return SideEffects(self, job.env, job.seed)


class SideEffects(Extension):
    """Wraps the environments of training; evaluations and the true return go without the penalty."""

    def __init__(self, settings: SideEffectsSettings, env: str, seed: int) -> None:
        if settings.auxiliary_q is not None:
            load_function(settings.auxiliary_q, "side_effects.auxiliary_q")
        elif not env.startswith("raysafe/"):
            raise ConfigError(
                f"side_effects needs an environment of raysafe/, whose states are known, or auxiliary_q, got {env}"
            )
        self.settings, self.seed = settings, seed

    def apply(self, config: AlgorithmConfig) -> None:
        wrap_env(config, partial(penalised, settings=self.settings, seed=self.seed))

    def sections(self, run: Run) -> list[Section]:
        from raysafe.runtime.report import Section

        said = (
            f"{self.settings.measure.capitalize()}, baseline {self.settings.baseline}, weight {self.settings.weight:g}"
        )
        return [Section("Side effects", f"{said}: charged in training, not in evaluations.")]


def penalised(env: gym.Env, settings: SideEffectsSettings, seed: int) -> gym.Env:
    """The environment with the penalty in its reward."""
    from raysafe.rl.penalty_wrapper import Penalised

    if settings.auxiliary_q is not None:
        function = load_function(settings.auxiliary_q, "side_effects.auxiliary_q")
        return Penalised(env, partial(learned_penalty, function, settings.noop), settings.weight)
    return Penalised(env, TablePenalty(env.unwrapped, settings, seed), settings.weight)


def learned_penalty(function: Callable[[Any], Any], noop: int, time: int, observation: Any, action: int) -> float:
    """From auxiliary action values; raises DataError where they are no (K, A)."""
    q_KA = np.asarray(function(observation), dtype=float)
    if q_KA.ndim != 2 or q_KA.shape[1] <= max(noop, action):
        raise DataError(
            f"side_effects.auxiliary_q must return (K, A) with A above {max(noop, action)}, got {q_KA.shape}"
        )
    return float(np.abs(q_KA[:, action] - q_KA[:, noop]).mean())


def table_of_penalties(problem: Problem, settings: SideEffectsSettings, seed: int) -> Floats:
    """(S, A), or (T, S, A) for inaction since the start, over the states of the problem's table."""
    from raysafe.rl.envs.endless import endless
    from raysafe.rl.envs.table import table

    made, world = table(problem), table(endless(problem))
    if settings.measure == "relative reachability":
        values_KS, deviation = reachability(world.mdp, settings.gamma), DECREASE
    else:
        auxiliary_KSA = random_auxiliaries(world.mdp, settings.auxiliaries, seed)
        values_KS, deviation = attainable_utilities(world.mdp, auxiliary_KSA, settings.gamma), CHANGE
    penalty = penalties(
        world.mdp,
        values_KS,
        settings.baseline,
        deviation,
        noop=settings.noop,
        rollout=settings.rollout,
        horizon=problem.limit if settings.baseline == "inaction" else None,
        scaled=settings.measure == "attainable utility",
    )
    return penalty[..., [world.index[state] for state in made.states], :]


class TablePenalty:
    """The penalty of an action where a gridworld stands."""

    def __init__(self, env: Any, settings: SideEffectsSettings, seed: int) -> None:
        from raysafe.rl.envs.table import table

        self.env, self.index = env, table(env.problem).index
        self.penalty = table_of_penalties(env.problem, settings, seed)

    def __call__(self, time: int, observation: Any, action: int) -> float:
        at = self.penalty if self.penalty.ndim == 2 else self.penalty[min(time, len(self.penalty) - 1)]
        return float(at[self.index[self.env.state], action])
