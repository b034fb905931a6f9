"""The reward that is truly collected (Leike et al. 2017: performance and reward agree in problems of robustness)."""

from __future__ import annotations

from raysafe.rl.envs.problem import Problem, State


def step(problem: Problem, time: int, state: State, action: int, following: State, reward: float) -> float:
    return reward
