"""Optimal action values of many rewards that are linear in the same features.

While one policy stays optimal, its action values are linear in the weights, q = psi w, with psi its discounted
expected features (successor features, Barreto et al. 2017). That is also dq/dw (the policy being optimal, its change
counts nothing), and what tells whether the policy is still greedy, and so still optimal, for other weights.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from raysafe.errors import DataError
from raysafe.irl.features import Features
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import TIE, check
from raysafe.rl.policy_system import PolicySystem

CACHE_BYTES = 64 << 20
Actions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Piece:
    """A deterministic policy with its action values for any weights. With a horizon arrays lead with a time axis T."""

    policy: Actions
    """(S,) or (T, S)."""
    psi: Floats
    """(F, S, A) or (F, T, S, A)."""

    def q(self, weights_F: Floats) -> Floats:
        """(S, A) or (T, S, A): the action values of this policy."""
        return (weights_F @ self.psi.reshape(len(weights_F), -1)).reshape(self.psi.shape[1:])

    def optimal_for(self, q: Floats) -> bool:
        """Whether the policy is greedy for its own values, but for TIE."""
        held, best = q.ravel()[self._chosen], q.max(axis=-1).ravel()
        return float((best - held).max()) <= TIE * max(1.0, float(np.abs(best).max()))

    @cached_property
    def _chosen(self) -> Actions:
        """Where the policy's actions are in action values that are laid out in one row."""
        return np.arange(self.policy.size) * self.psi.shape[-1] + self.policy.ravel()


class ActionValues:
    """The optimal action values of an MDP as a function of weights; pieces that were met are kept, up to 64 MiB."""

    def __init__(self, mdp: TabularMDP, features: Features, gamma: float, horizon: int | None = None) -> None:
        check(gamma, horizon)
        self.mdp, self.features, self.gamma, self.horizon = mdp, features, gamma, horizon
        rows = features.rows.toarray() if isinstance(features.rows, sparse.csr_array) else features.rows
        per_action = rows.reshape(mdp.states, -1, features.count)
        self._phi_SAF = np.where(
            mdp.ends_S[:, None, None], 0.0, np.broadcast_to(per_action, (mdp.states, mdp.actions, features.count))
        )
        self._states = np.arange(mdp.states)
        self._pieces: OrderedDict[bytes, Piece] = OrderedDict()

    def at(self, weights_F: Floats, near: Piece | None = None) -> tuple[Piece, Floats]:
        """The piece that is optimal for the weights, and its q. near: a piece to begin from; only where its policy is
        no longer greedy is anything planned anew."""
        if near is not None:
            q = near.q(weights_F)
            if near.optimal_for(q):
                return near, q
        if self.horizon is not None:
            return self._backward(weights_F, self.horizon)
        policy_S = near.policy if near is not None else (self._phi_SAF @ weights_F).argmax(axis=1)
        while True:
            piece = self._piece(policy_S)
            q = piece.q(weights_F)
            if piece.optimal_for(q):
                return piece, q
            held_S, best_S = q[self._states, policy_S], q.max(axis=1)
            better_S = best_S - held_S > TIE * max(1.0, np.abs(best_S).max())
            if not better_S.any():
                raise DataError("action values aren't finite: weights and features must be")
            policy_S = np.where(better_S, q.argmax(axis=1), policy_S)

    def _piece(self, policy_S: Actions) -> Piece:
        key = policy_S.tobytes()
        found = self._pieces.get(key)
        if found is None:
            found = Piece(policy_S, self._successors(policy_S))
            self._pieces[key] = found
            if len(self._pieces) * found.psi.nbytes > CACHE_BYTES and len(self._pieces) > 1:
                self._pieces.popitem(last=False)
        else:
            self._pieces.move_to_end(key)
        return found

    def _successors(self, policy_S: Actions) -> Floats:
        """(F, S, A) of a policy, discounted without end."""
        mdp, phi_SF = self.mdp, self._phi_SAF[self._states, policy_S]
        if isinstance(mdp.transitions, sparse.csr_array):
            system = PolicySystem(mdp, np.eye(mdp.actions)[policy_S], self.gamma)
            psi_SF = np.stack([system.values(column_S) for column_S in phi_SF.T], axis=1)
        else:
            stays_S = ~mdp.ends_S
            moves_SS = mdp.transitions[self._states, policy_S] * (stays_S[:, None] & stays_S[None])
            psi_SF = np.linalg.solve(np.eye(mdp.states) - self.gamma * moves_SS, phi_SF)
        return self._with_actions(np.asarray(psi_SF, dtype=np.float64))

    def _with_actions(self, psi_SF: Floats) -> Floats:
        """(F, S, A): features of a first action, then those of what follows in the next states, psi_SF."""
        mdp = self.mdp
        next_SAF = cast(Floats, mdp.rows @ psi_SF).reshape(mdp.states, mdp.actions, -1)
        next_SAF[mdp.ends_S] = 0.0
        return np.ascontiguousarray(np.moveaxis(self._phi_SAF + self.gamma * next_SAF, -1, 0))

    def _backward(self, weights_F: Floats, horizon: int) -> tuple[Piece, Floats]:
        steps, psi_SF = [], np.zeros((self.mdp.states, self.features.count))
        for _ in range(horizon):
            psi_FSA = self._with_actions(psi_SF)
            q_SA = np.tensordot(weights_F, psi_FSA, axes=1)
            best_S1 = q_SA.max(axis=1, keepdims=True)
            policy_S = np.argmax(q_SA >= best_S1 - TIE * np.maximum(1.0, np.abs(best_S1)), axis=1)
            psi_SF = psi_FSA[:, self._states, policy_S].T
            steps.append((policy_S, psi_FSA, q_SA))
        policy_TS, psi_TFSA, q_TSA = (np.stack(parts) for parts in zip(*reversed(steps), strict=True))
        return Piece(policy_TS, np.ascontiguousarray(np.moveaxis(psi_TFSA, 0, 1))), q_TSA
