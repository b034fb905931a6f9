"""What the designer of each problem wanted: a function of what was done, computed where no agent runs.

Neither an environment nor a job imports this. A module here has the name of its problem's and a function `step`, whose
sum over an episode is the episode's performance. `TIMED = True`: the number of steps before counts. `deployed`: the
problem on which an agent that was trained on this one is judged, where that is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from raysafe.rl.envs.problem import Problem, State


def measure(problem: Problem) -> ModuleType:
    """The module that belongs to a problem."""
    return import_module(f"{__name__}.{type(problem).__module__.rpartition('.')[2]}")


def deployed(problem: Problem) -> Problem:
    """Where an agent trained on `problem` is judged."""
    elsewhere = getattr(measure(problem), "deployed", None)
    return problem if elsewhere is None else elsewhere(problem)


def performance(
    problem: Problem, states_T1: Sequence[State], actions_T: Sequence[int], rewards_T: Sequence[float]
) -> float:
    """Of one episode."""
    step = measure(problem).step
    return sum(
        step(problem, time, states_T1[time], action, states_T1[time + 1], rewards_T[time])
        for time, action in enumerate(actions_T)
    )
