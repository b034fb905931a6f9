"""Features of states, or of states and actions, in which a reward is linear.

Dense (S, F) or (S, A, F), or sparse in CSR: (S, F), or (S * A, F) with row s * A + a. Features of states alone give
every action of a state the same reward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from raysafe.errors import DataError
from raysafe.rl.mdp import Floats

Array = Floats | sparse.csr_array


@dataclass(frozen=True, eq=False)
class Features:
    """Raises DataError where the shape fits neither the states nor the states and actions, or a number isn't finite."""

    array: Array
    states: int
    actions: int

    def __post_init__(self) -> None:
        shape = cast(tuple[int, ...], self.array.shape)
        of_states, flat = (self.states,), (self.states * self.actions,)
        allowed = (of_states, flat) if self.sparse else (of_states, (self.states, self.actions))
        if shape[:-1] not in allowed or not shape[-1]:
            raise DataError(
                f"features must be ({self.states}, F) or ({self.states}, {self.actions}, F), or a csr_array "
                f"({self.states}, F) or ({self.states} * {self.actions}, F), got {shape}"
            )
        if not np.isfinite(self.array.data if isinstance(self.array, sparse.csr_array) else self.array).all():
            raise DataError("features must be finite numbers")

    @property
    def sparse(self) -> bool:
        return isinstance(self.array, sparse.csr_array)

    @property
    def count(self) -> int:
        """F."""
        return cast(tuple[int, ...], self.array.shape)[-1]

    @cached_property
    def of_actions(self) -> bool:
        """Whether they tell a state's actions apart."""
        return cast(tuple[int, ...], self.rows.shape)[0] != self.states or self.array.ndim == 3

    @cached_property
    def rows(self) -> Array:
        """(S, F) or (S * A, F)."""
        return self.array if isinstance(self.array, sparse.csr_array) else self.array.reshape(-1, self.count)

    @cached_property
    def _columns(self) -> Array:
        """(F, S) or (F, S * A)."""
        return self.rows.T.tocsr() if isinstance(self.rows, sparse.csr_array) else self.rows.T

    def mapped(self, function: Callable[[Any], NDArray[Any]]) -> Features:
        """Features of a function of each number, which leaves 0 as it is."""
        if not isinstance(self.array, sparse.csr_array):
            return Features(function(self.array), self.states, self.actions)
        made = self.array.copy()
        made.data = function(self.array.data)
        return Features(made, self.states, self.actions)

    def rewards(self, weights_F: Floats) -> Floats:
        """(S, A)."""
        found = self.rows @ weights_F
        if self.of_actions:
            return found.reshape(self.states, self.actions)
        return np.repeat(found[:, None], self.actions, axis=1)

    def expected(self, visits_SA: Floats) -> Floats:
        """(F,): the sum of features over visits, such as an occupancy."""
        return self._columns @ (visits_SA.ravel() if self.of_actions else visits_SA.sum(axis=1))
