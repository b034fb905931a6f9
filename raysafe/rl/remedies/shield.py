"""A shield (Alshiekh et al. 2018): actions that may break a constraint at once are masked, in learning as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysafe.rl.constrained import shielded
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.safe_exploration import SafeExploration
from raysafe.rl.envs.table import Table, table
from raysafe.rl.mdp import Flags, Floats
from raysafe.rl.remedies.remedy import Remedy, plan


def allowed(made: Table, broken_S: Flags) -> Flags:
    """(S, A): actions of which no outcome breaks the constraint; where each may, those that do so least likely."""
    risk_SA = (made.probability_SAK * broken_S[made.next_SAK]).sum(axis=-1)
    return risk_SA <= risk_SA.min(axis=1, keepdims=True)


def in_water(made: Table) -> Flags:
    """The side information, distance 0."""
    return np.array([SafeExploration.distance(state[0]) == 0 for state in made.states])


def mask(env: Any) -> Flags:
    """For a training: `masking.function: raysafe.rl.remedies.shield:mask`, of the island where it stands."""
    made = table(env.problem)
    return allowed(made, in_water(made))[made.index[env.state]]


def solve(problem: Problem) -> Floats:
    made = table(problem)
    return plan(*shielded(made.mdp, made.rewards_SA, allowed(made, in_water(made))), problem.limit)


REMEDY = Remedy("shield", "no action that may lead to a distance of 0 from the water", solve)
