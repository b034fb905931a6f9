"""Costs beside the reward: `info["cost"]` of each step, and with the last step of an episode their sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from raysafe.errors import ConfigError

COST, EPISODE_COST = "cost", "episode_cost"


class Costed(gym.Wrapper):
    """function(observation, action, next observation): the cost of a step; by default the environment's own.

    Raises ConfigError at the first step of an environment that gives none.
    """

    def __init__(self, env: gym.Env, function: Callable[..., float] | None = None) -> None:
        super().__init__(env)
        self.function = function
        self.total, self.observation = 0.0, None

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.observation, info = self.env.reset(**options)
        self.total = 0.0
        return self.observation, {**info, COST: 0.0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before = self.observation
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        if self.function is None and COST not in info:
            raise ConfigError(
                f"constraint.function: {self.env} gives no cost in info[{COST!r}]; name a function of "
                "(observation, action, next observation) that does"
            )
        cost = float(info[COST] if self.function is None else self.function(before, action, self.observation))
        self.total += cost
        told = {**info, COST: cost}
        if terminated or truncated:
            told[EPISODE_COST] = self.total
        return self.observation, float(reward), terminated, truncated, told
