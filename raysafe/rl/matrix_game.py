"""Zero-sum matrix games, exactly: the value and optimal strategies by linear programming, and exploitability.

payoff_AB is what the row player gets and the column player loses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
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
    """Von Neumann's minimax; raises DataError for a payoff that is no finite matrix."""
    payoff_AB = np.asarray(payoff_AB, dtype=float)
    if payoff_AB.ndim != 2 or not np.isfinite(payoff_AB).all():
        raise DataError(f"a matrix game's payoff must be a finite matrix, got shape {payoff_AB.shape}")
    values, row_1A = guarantees(payoff_AB[None])
    _, column_1B = guarantees(-payoff_AB.T[None])
    return Solution(float(values[0]), row_1A[0], column_1B[0])


def exploitability(payoff_AB: Floats, row_A: Floats, column_B: Floats) -> float:
    """What best responses to both gain on average over the game's value: (max_a (P y)_a - min_b (x P)_b) / 2.

    It is 0 at an equilibrium, and nowhere else.
    """
    return float((payoff_AB @ column_B).max() - (row_A @ payoff_AB).min()) / 2


def guarantees(payoff_SAB: Floats) -> tuple[Floats, Floats]:
    """For each matrix game, the most that the row player can be sure of, and the strategy for it: (S,), (S, A).

    Maximise the sum of v_s such that v_s <= (x_s P_s)_b in all columns b, x_s being a distribution.
    """
    states, rows, columns = payoff_SAB.shape
    which = np.arange(states)
    v = sparse.csr_array(
        (np.ones(states * columns), (np.arange(states * columns), which.repeat(columns))),
        shape=(states * columns, states),
    )
    x = sparse.block_diag([-payoff_AB.T for payoff_AB in payoff_SAB], format="csr")
    total = sparse.kron(sparse.eye_array(states), np.ones((1, rows)))
    found = linprog(
        np.concatenate([np.zeros(states * rows), -np.ones(states)]),
        A_ub=sparse.hstack([x, v], format="csr"),
        b_ub=np.zeros(states * columns),
        A_eq=sparse.hstack([total, sparse.csr_array((states, states))], format="csr"),
        b_eq=np.ones(states),
        bounds=[(0, None)] * (states * rows) + [(None, None)] * states,
        method="highs",
    )
    if not found.success:
        raise DataError(f"the matrix games have no solution: {found.message}")
    strategy_SA = np.clip(found.x[: states * rows].reshape(states, rows), 0.0, None)
    return found.x[states * rows :], strategy_SA / strategy_SA.sum(axis=1, keepdims=True)
