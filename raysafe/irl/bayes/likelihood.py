"""How likely demonstrations are for reward weights: the demonstrator picks actions with probability proportional to
exp(beta q*(state, action)), q* being the optimal action values (Ramachandran and Amir 2007, equation 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.bayes.successor import ActionValues, Piece
from raysafe.irl.demonstrations import checked
from raysafe.irl.features import Features
from raysafe.rl.mdp import Floats, TabularMDP


def counts(trajectories: Sequence[Trajectory], mdp: TabularMDP, horizon: int | None = None) -> Floats:
    """(S, A): how often each action was taken in each state; (T, S, A) with a horizon, by step.

    Raises DataError for trajectories that can't have happened in the MDP, and for none.
    """
    if not trajectories:
        raise DataError("there are no trajectories to learn from: give one at least")
    found = np.zeros((mdp.states, mdp.actions) if horizon is None else (horizon, mdp.states, mdp.actions))
    for number, trajectory in enumerate(trajectories, start=1):
        states_T1, actions_T = checked(mdp, trajectory, horizon, f"trajectory {number}")
        when = () if horizon is None else (np.arange(len(actions_T)),)
        np.add.at(found, (*when, states_T1[:-1], actions_T), 1.0)
    return found


class Likelihood:
    """The log-likelihood of weights, its exact gradient, and the piece of optimal values that both come from."""

    def __init__(
        self,
        mdp: TabularMDP,
        features: Features,
        counts: Floats,
        *,
        beta: float,
        gamma: float,
        horizon: int | None = None,
    ) -> None:
        """counts: (S, A), or (T, S, A) with a horizon; as many as were seen, or zeros."""
        self.values, self.beta, self.dimensions = ActionValues(mdp, features, gamma, horizon), beta, features.count
        self._counts = counts.reshape(-1, mdp.actions)
        self._seen = np.flatnonzero(self._counts.sum(axis=1))
        self._counts_NA = self._counts[self._seen]
        self._visits_N = self._counts_NA.sum(axis=1)

    def describe(self, take: Callable[[bytes], object]) -> None:
        """Hand over all that decides the likelihood, as bytes."""
        values = self.values
        take(f"{self.beta!r} {values.gamma!r} {values.horizon!r} {self.dimensions}".encode())
        rows, features = sparse.csr_array(values.mdp.rows), sparse.csr_array(values.features.rows)
        parts = (rows.data, rows.indices, rows.indptr, features.data, features.indices, features.indptr)
        for array in (*parts, values.mdp.ends_S, self._counts):
            take(np.ascontiguousarray(array).tobytes())

    def of_values(self, q: Floats) -> float:
        """The log-likelihood for optimal action values."""
        scaled_NA = self.beta * q.reshape(self._counts.shape)[self._seen]
        highest_N = scaled_NA.max(axis=1)
        partition_N = highest_N + np.log(np.exp(scaled_NA - highest_N[:, None]).sum(axis=1))
        return float((self._counts_NA * scaled_NA).sum() - self._visits_N @ partition_N)

    def at(self, weights_F: Floats, near: Piece | None = None) -> tuple[float, Piece]:
        piece, q = self.values.at(weights_F, near)
        return self.of_values(q), piece

    def gradient_at(self, weights_F: Floats, near: Piece | None = None) -> tuple[float, Floats, Piece]:
        """(log-likelihood, its gradient, piece). At weights for which two policies are optimal, the gradient of one."""
        piece, q = self.values.at(weights_F, near)
        scaled_NA = self.beta * q.reshape(self._counts.shape)[self._seen]
        logps_NA = scaled_NA - scaled_NA.max(axis=1, keepdims=True)
        logps_NA -= np.log(np.exp(logps_NA).sum(axis=1, keepdims=True))
        missing_NA = self._counts_NA - self._visits_N[:, None] * np.exp(logps_NA)
        psi_FNA = piece.psi.reshape(self.dimensions, *self._counts.shape)[:, self._seen]
        slope_F = self.beta * (psi_FNA.reshape(self.dimensions, -1) @ missing_NA.ravel())
        return float((self._counts_NA * logps_NA).sum()), slope_F, piece
