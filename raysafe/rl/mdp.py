"""A finite Markov decision process without its reward: transitions, where it starts and where it ends.

Transitions are dense, (S, A, S), or sparse, (S * A, S) in CSR with row s * A + a; both give the same results. Terminal
states end the episode: their value is 0 and nothing is visited or earned in them. What goes on for ever in one place is
an absorbing state, whose actions lead back to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from raysafe.errors import DataError
from raysafe.rl.pattern import Floats, Pattern

Flags = NDArray[np.bool_]
MANY, THIN = 64, 0.1
"""Dense transitions of so many states of which less than that share isn't 0 are worked with as sparse ones."""


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """transitions: as above; initial_S: probabilities of the first state; terminal_S: flags, none by default.

    Raises DataError where shapes don't agree or a row isn't a distribution.
    """

    transitions: Floats | sparse.csr_array
    initial_S: Floats
    terminal_S: Flags | None = None

    def __post_init__(self) -> None:
        states, shape = self.initial_S.shape[0], cast(tuple[int, ...], self.transitions.shape)
        dense = len(shape) == 3 and shape[0] == shape[2] == states
        flat = len(shape) == 2 and shape[0] % states == 0 and shape[1] == states
        if not (flat if isinstance(self.transitions, sparse.csr_array) else dense):
            raise DataError(
                f"transitions must be ({states}, A, {states}), or a csr_array ({states} * A, {states}), got {shape}"
            )
        for name, rows in (("transitions", self.rows), ("initial_S", self.initial_S[None])):
            low = rows.data.min(initial=0.0) if isinstance(rows, sparse.csr_array) else rows.min()
            off = np.abs(np.asarray(rows.sum(axis=1)).ravel() - 1).max()
            if low < 0 or off > 1e-8:
                raise DataError(
                    f"{name} must be probabilities that add up to 1: least {low:.3g}, furthest off {off:.3g}"
                )
        if self.terminal_S is not None and self.terminal_S.shape != (states,):
            raise DataError(f"terminal_S must be ({states},), got {self.terminal_S.shape}")

    @property
    def states(self) -> int:
        return self.initial_S.shape[0]

    @property
    def actions(self) -> int:
        return cast(tuple[int, ...], self.rows.shape)[0] // self.states

    @cached_property
    def ends_S(self) -> Flags:
        return np.zeros(self.states, dtype=bool) if self.terminal_S is None else self.terminal_S

    @cached_property
    def rows(self) -> Floats | sparse.csr_array:
        """(S * A, S); sparse too where dense transitions of many states are mostly 0."""
        if isinstance(self.transitions, sparse.csr_array):
            return self.transitions
        rows = self.transitions.reshape(-1, self.states)
        few = self.states >= MANY and np.count_nonzero(rows) < THIN * rows.size
        return sparse.csr_array(rows) if few else rows

    @cached_property
    def pattern(self) -> Pattern | None:
        """Of sparse transitions."""
        return Pattern(self.rows, self.ends_S) if isinstance(self.rows, sparse.csr_array) else None

    @cached_property
    def _columns(self) -> Floats | sparse.csr_array:
        """(S, S * A)."""
        return self.rows.T.tocsr() if isinstance(self.rows, sparse.csr_array) else self.rows.T

    def expected(self, values_S: Floats) -> Floats:
        """(S, A): the mean of next states' values; terminal states count 0, as next states and as states."""
        next_SA = (self.rows @ self._going_on(values_S)).reshape(self.states, -1)
        if self.terminal_S is not None:
            next_SA[self.ends_S] = 0.0
        return next_SA

    def arrivals(self, flows_SA: Floats) -> Floats:
        """(S,): what comes into each state where `flows_SA` take its actions; none in or from terminal states."""
        leaving_SA = flows_SA if self.terminal_S is None else np.where(self.ends_S[:, None], 0.0, flows_SA)
        return self._going_on(self._columns @ leaving_SA.ravel())

    def _going_on(self, values_S: Floats) -> Floats:
        return values_S if self.terminal_S is None else np.where(self.ends_S, 0.0, values_S)

    def absorbing(self) -> TabularMDP:
        """The same without an end: terminal states lead to themselves for ever."""
        if self.terminal_S is None:
            return self
        flags_N = np.repeat(self.ends_S, self.actions).astype(float)
        stays = sparse.kron(sparse.eye_array(self.states), np.ones((self.actions, 1)), format="csr")
        rows = sparse.diags_array(1 - flags_N) @ sparse.csr_array(self.rows) + sparse.diags_array(flags_N) @ stays
        return TabularMDP(sparse.csr_array(rows), self.initial_S)
