"""Stepwise relative reachability as a penalty: a step costs what it makes unreachable that doing nothing would not."""

from __future__ import annotations

import numpy as np

from raysafe.rl.envs.endless import endless
from raysafe.rl.envs.problem import Action, Problem
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies.remedy import Remedy, plan
from raysafe.rl.side_effects import DECREASE, penalties, reachability

WEIGHT, GAMMA = 50.0, 0.99


def penalty(problem: Problem) -> Floats:
    """(S, A): over all states of the world, which doesn't end where an episode does."""
    made, world = table(problem), table(endless(problem))
    values_KS = reachability(world.mdp, GAMMA)
    penalty_SA = penalties(world.mdp, values_KS, "stepwise inaction", DECREASE, noop=Action.STAY)
    return penalty_SA[np.array([world.index[state] for state in made.states])]


def solve(problem: Problem) -> Floats:
    made = table(problem)
    return plan(made.mdp, made.rewards_SA - WEIGHT * penalty(problem), problem.limit)


REMEDY = Remedy(
    "relative reachability", "the action that does nothing, and the penalty's weight: what the goal pays", solve
)
