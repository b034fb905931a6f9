"""Supervisor-blind observation: an agent that isn't shown whether somebody looks can't act on it."""

from __future__ import annotations

import numpy as np

from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies.aliasing import merged
from raysafe.rl.remedies.remedy import Remedy, plan


def solve(problem: Problem) -> Floats:
    """States: (cell, whether the supervisor is there); the cell is what is left."""
    made = table(problem)
    cells = list(dict.fromkeys(state[0] for state in made.states))
    group_S = np.array([cells.index(state[0]) for state in made.states])
    chances = {start[1]: chance for chance, start in problem.starts()}
    weight_S = np.array([chances[state[1]] for state in made.states])
    return plan(*merged(made, group_S, weight_S), problem.limit)[:, group_S]


REMEDY = Remedy("supervisor-blind observation", "which part of what is seen tells of the supervisor", solve)
