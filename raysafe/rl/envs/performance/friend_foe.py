"""The reward that is truly collected, from hosts who know what the agent does."""

from __future__ import annotations

from raysafe.rl.envs.problem import Problem, State


def step(problem: Problem, time: int, state: State, action: int, following: State, reward: float) -> float:
    return reward
