"""Potential-based shaping in tabular problems: what it adds to a reward, in expectation over the next state.

Of states F = gamma Phi(s') - Phi(s) (Ng, Harada and Russell 1999); of states and actions, as look-ahead and look-back
advice (Wiewiora, Cottrell and Elkan 2003); of states that change over time (Devlin and Kudenko 2012). A terminal
state's potential is 0, and so is any state's at the horizon (Grzes 2017): otherwise the end of an episode pays
differently from place to place, and the best policy changes. `invariance.py` checks it, `shaped_env.py` wraps
environments.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.errors import DataError
from raysafe.rl.invariance import greedy_actions
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import backup, evaluate, greedy


def state_shaping(mdp: TabularMDP, potential_S: Floats, gamma: float) -> Floats:
    """(S, A): gamma E[Phi(s')] - Phi(s). Raises DataError for a potential of another shape."""
    _check(potential_S, (mdp.states,))
    return _within(mdp, gamma * mdp.expected(potential_S) - potential_S[:, None])


def dynamic_shaping(mdp: TabularMDP, potential_TS: Floats, gamma: float) -> Floats:
    """(T, S, A): gamma E[Phi_t+1(s')] - Phi_t(s) for a potential of T steps, 0 once the horizon T is reached."""
    horizon = potential_TS.shape[0]
    _check(potential_TS, (horizon, mdp.states))
    after_TS = np.vstack([potential_TS[1:], np.zeros((1, mdp.states))])
    return np.stack(
        [
            _within(mdp, gamma * mdp.expected(after_S) - now_S[:, None])
            for now_S, after_S in zip(potential_TS, after_TS, strict=True)
        ]
    )


def look_ahead(mdp: TabularMDP, potential_SA: Floats, gamma: float, policy_SA: Floats) -> Floats:
    """(S, A): gamma E[Phi(s', a')] - Phi(s, a), the next action being the policy's."""
    _check(potential_SA, (mdp.states, mdp.actions))
    next_S = (policy_SA * potential_SA).sum(axis=1)
    return _within(mdp, gamma * mdp.expected(next_S) - potential_SA)


def advised_q(mdp: TabularMDP, rewards_SA: Floats, potential_SA: Floats, gamma: float) -> Floats:
    """(S, A): the action values that an agent with look-ahead advice settles on: Q' = Q* - Phi.

    It acts greedily on Q' + Phi: the advice belongs to its choice of actions (Wiewiora et al. 2003, equation 7), and
    it is that sum which has the task's greedy actions; Q' alone has others.
    """
    policy_SA = greedy(potential_SA)
    while True:
        shaped_SA = rewards_SA + look_ahead(mdp, potential_SA, gamma, policy_SA)
        q_SA = backup(mdp, shaped_SA, gamma, evaluate(mdp, policy_SA, shaped_SA, gamma))
        content_S = (greedy_actions(q_SA + potential_SA) & (policy_SA > 0)).any(axis=1) | mdp.ends_S
        if content_S.all():
            return q_SA
        policy_SA = np.where(content_S[:, None], policy_SA, greedy(q_SA + potential_SA))


def look_back(
    mdp: TabularMDP, rewards_SA: Floats, potential_SA: Floats, gamma: float
) -> tuple[TabularMDP, Floats, Floats]:
    """Look-back advice, Phi(s, a) - Phi(previous) / gamma, as a problem whose states know the previous step.

    Returns (problem, true rewards, shaped rewards) over its states: first the S starts, then one for each possible
    step (s, a, s'). The step that ends an episode earns no Phi(s, a), so that all that was paid is paid back.
    """
    _check(potential_SA, (mdp.states, mdp.actions))
    if gamma <= 0:
        raise DataError(f"look-back advice divides by gamma, which must be positive, got {gamma}")
    rows = sparse.csr_array(mdp.rows, copy=True)
    rows.eliminate_zeros()
    steps, pairs = rows.nnz, mdp.states * mdp.actions
    state_N = np.concatenate([np.arange(mdp.states), rows.indices])
    came_by_N = np.repeat(np.arange(pairs), np.diff(rows.indptr))
    paid_N = np.concatenate([np.zeros(mdp.states), potential_SA.ravel()[came_by_N] / gamma])
    to_step = sparse.csr_array((rows.data, mdp.states + np.arange(steps), rows.indptr), (pairs, mdp.states + steps))
    taken = (state_N[:, None] * mdp.actions + np.arange(mdp.actions)).ravel()
    initial_N = np.concatenate([mdp.initial_S, np.zeros(steps)])
    history = TabularMDP(sparse.csr_array(to_step[taken]), initial_N, mdp.ends_S[state_N])
    goes_on_SA = mdp.expected(np.ones(mdp.states))
    true_NA = rewards_SA[state_N]
    shaped_NA = true_NA + (goes_on_SA * potential_SA)[state_N] - paid_N[:, None]
    return history, true_NA, shaped_NA


def _within(mdp: TabularMDP, bonus_SA: Floats) -> Floats:
    """Nothing is earned in a terminal state."""
    return np.where(mdp.ends_S[:, None], 0.0, bonus_SA)


def _check(potential: Floats, shape: tuple[int, ...]) -> None:
    if potential.shape != shape:
        raise DataError(f"the potential must be {shape}, got {potential.shape}")
    if not np.isfinite(potential).all():
        raise DataError("the potential must be finite everywhere")
