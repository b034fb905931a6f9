"""Stepwise relative reachability as a penalty: a step costs what it makes unreachable that doing nothing would not."""

from __future__ import annotations

from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies.remedy import Remedy, plan
from raysafe.rl.side_effect_penalty import SideEffectsSettings, table_of_penalties

SETTINGS = SideEffectsSettings()
"""The defaults, with a weight of 50, which is what the goal pays."""


def solve(problem: Problem, settings: SideEffectsSettings = SETTINGS) -> Floats:
    made = table(problem)
    penalty_SA = table_of_penalties(problem, settings, seed=0)
    return plan(made.mdp, made.rewards_SA - settings.weight * penalty_SA, problem.limit)


REMEDY = Remedy(
    "relative reachability", "the action that does nothing, and the penalty's weight: what the goal pays", solve
)
