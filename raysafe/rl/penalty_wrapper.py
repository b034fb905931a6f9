"""An environment that charges a penalty for what is done where it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from raysafe.rl.reward_wrapper import AddedReward


class Penalised(AddedReward):
    """penalty(time, observation, action), asked before the step is taken; time counts from the episode's start."""

    def __init__(self, env: gym.Env, penalty: Callable[[int, Any, int], float], weight: float) -> None:
        super().__init__(env)
        self.penalty, self.weight = penalty, weight
        self.time, self.due = 0, 0.0

    def started(self) -> None:
        self.time = 0

    def before(self, action: Any) -> None:
        self.due = self.weight * self.penalty(self.time, self.observation, int(action))
        self.time += 1

    def added(self, action: Any, observation: Any, terminated: bool) -> float:
        return -self.due
