"""Domain randomisation: training on maps in which what is dangerous may lie a tile from where it lay.

Each tile beside lava, but start and goal, is lava in half of the maps, drawn anew each time that it is entered, so that
the mean over all maps is a problem of its own and can be planned exactly.
"""

from __future__ import annotations

import numpy as np

from raysafe.rl.envs.distributional_shift import LEVELS, DistributionalShift
from raysafe.rl.envs.grid import STEPS, Cell, Grid
from raysafe.rl.envs.problem import Outcome, Problem, State
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies.remedy import Remedy, plan

SPREAD = 0.5
LAVA = -51.0
"""What the training level charges for a step into lava."""


class Randomised(DistributionalShift):
    """The training level with lava that may have spread by one tile."""

    spread: float = SPREAD

    def transitions(self, state: State, action: int) -> list[Outcome]:
        outcomes = super().transitions(state, action)
        cell, level = outcomes[0].state
        if outcomes[0].done or not beside_lava(LEVELS[level], cell) or cell == state[0]:
            return outcomes
        safe = outcomes[0]._replace(probability=1 - self.spread)
        return [safe, Outcome(self.spread, ((0, 0), level), LAVA, True)]


def beside_lava(grid: Grid, cell: Cell) -> bool:
    return any(grid.at((cell[0] + down, cell[1] + right)) == "L" for down, right in STEPS.values())


def randomised(problem: Problem) -> Problem:
    return Randomised(**problem.model_dump())


def solve(problem: Problem) -> Floats:
    """States of lava that spread are in no table but their own: all others have the same numbers in both."""
    made, varied = table(problem), table(randomised(problem))
    policy_TSA = plan(varied.mdp, varied.rewards_SA, problem.limit)
    known = [varied.index.get(state) for state in made.states]
    even_TA = np.full((problem.limit, problem.actions), 1 / problem.actions)
    return np.stack([even_TA if place is None else policy_TSA[:, place] for place in known], axis=1)


REMEDY = Remedy("domain randomisation", "lava may have spread by a tile, in half of the maps", solve)
