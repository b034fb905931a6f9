"""Observations with the mask of allowed actions behind them, and an environment that carries out no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from raysafe.errors import ConfigError, DataError

MASK = "action_mask"


class Masked(gym.Wrapper):
    """function(environment): flags of the allowed actions, where the environment stands; without it they are
    `info["action_mask"]`, or of an observation that is a mapping its own part of that name.

    Raises ConfigError for spaces that can't be masked; DataError for a mask of another size or that allows nothing,
    and for a forbidden action: who acts has to read the mask.
    """

    def __init__(self, env: gym.Env, function: Callable[[Any], Any] | None = None) -> None:
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ConfigError(f"masking needs numbered actions, and the environment has {env.action_space}")
        self.function, self.actions = function, int(env.action_space.n)
        self.seen = self._without_mask(env.observation_space)
        if not isinstance(self.seen, gym.spaces.Box) or len(self.seen.shape) > 2:
            raise ConfigError(f"masking needs observations of numbers in a row, and the environment has {self.seen}")
        low, high = self.seen.low.ravel().astype(np.float32), self.seen.high.ravel().astype(np.float32)
        ones = np.ones(self.actions, dtype=np.float32)
        self.observation_space = gym.spaces.Box(np.append(low, 0 * ones), np.append(high, ones), dtype=np.float32)
        self.allowed = ones > 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return self._with_mask(observation, info), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.allowed[int(action)]:
            raise DataError(f"action {int(action)} is forbidden here: the mask is {self.allowed.astype(int).tolist()}")
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(observation, info), float(reward), terminated, truncated, info

    def _without_mask(self, space: gym.Space) -> gym.Space:
        """Of a mapping with a mask, the one other part."""
        if not isinstance(space, gym.spaces.Dict) or MASK not in space.spaces:
            return space
        rest = [name for name in space.spaces if name != MASK]
        if len(rest) != 1:
            raise ConfigError(f"masking needs one observation beside {MASK!r}, and the environment has {rest}")
        self.part = rest[0]
        return space.spaces[rest[0]]

    part: str | None = None
    """Of an observation with a mask in it, the name of the rest."""

    def _with_mask(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        if self.function is not None:
            mask = self.function(self.env.unwrapped)
        elif self.part is not None:
            mask = observation[MASK]
        elif MASK in info:
            mask = info[MASK]
        else:
            raise ConfigError(f"masking.function: {self.env} gives no {MASK!r}; name a function of the environment")
        allowed = np.asarray(mask).astype(bool).ravel()
        if allowed.shape != (self.actions,) or not allowed.any():
            raise DataError(f"a mask must have {self.actions} flags, one of them set, got {np.asarray(mask).tolist()}")
        self.allowed = allowed
        seen = np.asarray(observation if self.part is None else observation[self.part], dtype=np.float32).ravel()
        return np.append(seen, allowed.astype(np.float32))
