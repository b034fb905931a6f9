"""Settings of shaping in a training, and what they become."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.rl.extension import Extension, wrap_env
from raysafe.runtime.functions import load_function

if TYPE_CHECKING:
    import gymnasium as gym
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.rl.job import RLJob
    from raysafe.runtime.report import Section
    from raysafe.runtime.run import Run

Kind = Literal["state", "state and action", "dynamic", "bonus"]
CHANGES_TASK = "shaping/changes_task"
"""Metric: 1 where the reward has a bonus that is no potential, 0 where the best policies are those of the task."""
KEEPS = "Potential-based shaping ({kind}): the best policies are those of the true reward."
CHANGES = "The reward has a bonus that is no potential: what is best under it may not be best for the task."


class ShapingSettings(Config):
    """Something is added to the reward in training; evaluations and the true return go without it."""

    kind: Kind = Field(
        default="state",
        description="What the function is: a potential(observation), potential(observation, action) as look-back "
        "advice, or potential(observation, steps), which leave the task as it is; or a bonus(observation, action, next "
        "observation), which changes it and is labelled so.",
    )
    function: str = Field(description="module:function, which returns a number.")
    weight: float = Field(default=1.0, allow_inf_nan=False, description="What the number is multiplied by.")

    def extension(self, job: RLJob) -> Shaping:
        return Shaping(self)


class Shaping(Extension):
    """Wraps the environments of training; the agent's own discount is the potential's, or the task would change."""

    def __init__(self, settings: ShapingSettings) -> None:
        load_function(settings.function, "shaping.function")
        self.settings = settings

    def apply(self, config: AlgorithmConfig) -> None:
        gamma = config.gamma
        if gamma is None or (gamma <= 0 and self.settings.kind == "state and action"):
            raise ConfigError(f"shaping needs the discount of the agent, positive for look-back advice, got {gamma}")
        wrap_env(config, partial(shaped, settings=self.settings, gamma=gamma))

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        return {CHANGES_TASK: float(self.settings.kind == "bonus")}

    def sections(self, run: Run) -> list[Section]:
        from raysafe.runtime.report import Section

        text = CHANGES if self.settings.kind == "bonus" else KEEPS.format(kind=self.settings.kind)
        return [Section("Shaping", f"{text} Function: {self.settings.function}, weight {self.settings.weight:g}.")]


def shaped(env: gym.Env, settings: ShapingSettings, gamma: float) -> gym.Env:
    """The environment with what the settings add to its reward."""
    from raysafe.rl.shaped_env import Bonus, ShapedByAction, ShapedByState, ShapedOverTime

    function = load_function(settings.function, "shaping.function")
    kinds = {"state": ShapedByState, "state and action": ShapedByAction, "dynamic": ShapedOverTime, "bonus": Bonus}

    def weighted(*seen: Any) -> float:
        return settings.weight * float(function(*seen))

    return kinds[settings.kind](env, weighted, gamma)
