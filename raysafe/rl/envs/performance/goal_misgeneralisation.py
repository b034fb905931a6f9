"""The reward that is collected where the coin lies elsewhere."""

from __future__ import annotations

from raysafe.rl.envs.problem import Problem, State


def step(problem: Problem, time: int, state: State, action: int, following: State, reward: float) -> float:
    return reward


def deployed(problem: Problem) -> Problem:
    return problem.model_copy(update={"level": "test"})
