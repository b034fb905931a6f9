"""Ten errands, of one of three kinds each: the risky way earns more by its kind, and costs 1."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

KINDS, ERRANDS = 3, 10
RISKY, SAFE = (1.0, 0.6, 0.3), 0.2
SAFELY, RISKILY = 0, 1


class Errands(gym.Env):
    """The observation is the kind, one of three flags."""

    observation_space = gym.spaces.Box(0, 1, (KINDS,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.done = 0
        return self._next(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = RISKY[self.kind] if action == RISKILY else SAFE
        self.done += 1
        return self._next(), reward, self.done == ERRANDS, False, {"cost": float(action == RISKILY)}

    def _next(self) -> np.ndarray:
        self.kind = int(self.np_random.integers(KINDS))
        return np.eye(KINDS, dtype=np.float32)[self.kind]
