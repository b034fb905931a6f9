"""Where the matrix I - gamma P of any policy can differ from 0, worked out once for sparse transitions."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]


class Pattern:
    """rows: transitions (S * A, S) in CSR; ends_S: terminal states, whose rows and columns are the identity's."""

    def __init__(self, rows: sparse.csr_array, ends_S: NDArray[np.bool_]) -> None:
        self.states = ends_S.size
        actions = cast(tuple[int, ...], rows.shape)[0] // self.states
        row_N = np.repeat(np.arange(self.states * actions), np.diff(rows.indptr))
        kept_N = ~(ends_S[row_N // actions] | ends_S[rows.indices])
        self._row_N, self._probability_N = row_N[kept_N], rows.data[kept_N]
        diagonal_S = np.arange(self.states)
        # of an entry: column * S + row, so that sorted keys are the order of CSC
        entry_N = rows.indices[kept_N].astype(np.int64) * self.states + self._row_N // actions
        keys_E, place = np.unique(np.concatenate([entry_N, diagonal_S * (self.states + 1)]), return_inverse=True)
        self._place_N, self._diagonal_S = place[: entry_N.size], place[entry_N.size :]
        self._indices_E = (keys_E % self.states).astype(np.int32)
        columns_S1 = np.arange(self.states + 1) * self.states
        self._indptr = np.searchsorted(keys_E, columns_S1).astype(np.int32)

    def matrix(self, policy_SA: Floats, gamma: float) -> sparse.csc_array:
        """(S, S): I - gamma P under the policy, as splu wants it."""
        moves_N = self._probability_N * policy_SA.ravel()[self._row_N]
        data_E = np.bincount(self._place_N, weights=moves_N, minlength=self._indices_E.size) * -gamma
        data_E[self._diagonal_S] += 1.0
        return sparse.csc_array((data_E, self._indices_E, self._indptr), shape=(self.states, self.states))
