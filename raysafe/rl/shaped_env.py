"""Shaping around an environment: the potential of what is seen, or a bonus that is none.

F = gamma Phi(next) - Phi(now), where Phi is 0 once an episode is over (`shaping.py` has the sources and the tabular
side). A potential of states and actions is look-back advice: the environment knows the last action, not the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from raysafe.rl.reward_wrapper import AddedReward


class ShapedByState(AddedReward):
    """potential(observation), fixed: Ng, Harada and Russell 1999."""

    def __init__(self, env: gym.Env, potential: Callable[..., float], gamma: float) -> None:
        super().__init__(env)
        self.potential, self.gamma = potential, gamma
        self.held = 0.0

    def value(self, observation: Any) -> float:
        return float(self.potential(observation))

    def started(self) -> None:
        self.held = self.value(self.observation)

    def added(self, action: Any, observation: Any, terminated: bool) -> float:
        arrived = 0.0 if terminated else self.value(observation)
        paid, self.held = self.gamma * arrived - self.held, arrived
        return paid


class ShapedOverTime(ShapedByState):
    """potential(observation, steps), steps being those taken in this environment since it was made: what a state was
    worth when it was entered is what is paid back when it is left (Devlin and Kudenko 2012)."""

    steps = 0

    def value(self, observation: Any) -> float:
        return float(self.potential(observation, self.steps))

    def before(self, action: Any) -> None:
        self.steps += 1


class ShapedByAction(AddedReward):
    """potential(observation, action): Phi(now) - Phi(before) / gamma (Wiewiora, Cottrell and Elkan 2003)."""

    def __init__(self, env: gym.Env, potential: Callable[..., float], gamma: float) -> None:
        super().__init__(env)
        self.potential, self.gamma = potential, gamma
        self.held = 0.0

    def started(self) -> None:
        self.held = 0.0

    def added(self, action: Any, observation: Any, terminated: bool) -> float:
        advice = 0.0 if terminated else float(self.potential(self.observation, action))
        paid, self.held = advice - self.held / self.gamma, advice
        return paid


class Bonus(AddedReward):
    """bonus(observation, action, next observation), whatever it does to the task."""

    def __init__(self, env: gym.Env, bonus: Callable[..., float], gamma: float) -> None:
        super().__init__(env)
        self.bonus = bonus

    def added(self, action: Any, observation: Any, terminated: bool) -> float:
        return float(self.bonus(self.observation, action, observation))
