"""An environment of a user's own, for tests: the pole on the cart, with pictures that need no package."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class Balancing(CartPoleEnv):
    """CartPole with its time limit inside, drawn as the cart's place on a line."""

    taken = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.taken = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, _, info = super().step(action)
        self.taken += 1
        return obs, reward, terminated, self.taken >= 500, info

    def render(self) -> np.ndarray:
        picture_HWC = np.full((20, 49, 3), 255, dtype=np.uint8)
        assert self.state is not None
        picture_HWC[8:12, int(np.clip(24 + 10 * self.state[0], 0, 48))] = 0
        return picture_HWC
