"""Zero-sum matrix games, exactly: the value and optimal strategies by linear programming, and exploitability.

payoff_AB is what the row player gets and the column player loses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from raysafe.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """A game's value for the row player, and strategies that guarantee it to both."""

    value: float
    row_A: Floats
    column_B: Floats


def solve(payoff_AB: Floats) -> Solution:
    """Von Neumann's minimax as two linear programmes; raises DataError for a payoff that is no finite matrix."""
    payoff_AB = np.asarray(payoff_AB, dtype=float)
    if payoff_AB.ndim != 2 or not np.isfinite(payoff_AB).all():
        raise DataError(f"a matrix game's payoff must be a finite matrix, got shape {payoff_AB.shape}")
    value, row_A = _guarantee(payoff_AB)
    _, column_B = _guarantee(-payoff_AB.T)
    return Solution(value, row_A, column_B)


def exploitability(payoff_AB: Floats, row_A: Floats, column_B: Floats) -> float:
    """What best responses to both gain on average over the game's value: (max_a (P y)_a - min_b (x P)_b) / 2.

    It is 0 at an equilibrium, and nowhere else.
    """
    return float((payoff_AB @ column_B).max() - (row_A @ payoff_AB).min()) / 2


def _guarantee(payoff_AB: Floats) -> tuple[float, Floats]:
    """Maximise v such that each column gives the row player at least v."""
    actions, columns = payoff_AB.shape
    cost = np.append(np.zeros(actions), -1.0)
    # v - (x P)_b <= 0
    limits = np.hstack([-payoff_AB.T, np.ones((columns, 1))])
    total = np.append(np.ones(actions), 0.0)[None]
    bounds = [(0.0, None)] * actions + [(None, None)]
    found = linprog(cost, A_ub=limits, b_ub=np.zeros(columns), A_eq=total, b_eq=[1.0], bounds=bounds)
    if not found.success:
        raise DataError(f"the game's linear programme has no solution: {found.message}")
    strategy_A = np.clip(found.x[:-1], 0.0, None)
    return float(found.x[-1]), strategy_A / strategy_A.sum()
