"""How far apart two rewards are, from 0 to 1, whatever their scale and potential shaping: EPIC and DARD, exactly.

Each reward is made canonical, which takes away potential-based shaping; the distance is sqrt((1 - rho) / 2), rho being
the correlation of the two over covered transitions. EPIC (Gleave et al. 2021, definitions 4.1 to 4.7) knows nothing of
the dynamics. DARD (Wulfe et al. 2022, definition 4) replaces its independent next states by those of a transition
model, so that rewards count only where one can get to; shaping cancels as its actions are the same in both terms.

Rewards are tables (S, A), or (S, A, S) where they depend on the next state. Shaping gives the latter: a table (S, A) of
*expected* shaped rewards is no shaped reward of its own. A reward that doesn't vary has no direction: it is 0 from
another such, and sqrt(1/2), as if uncorrelated, from any other. Sampled, for continuous spaces: epic_sampled.py.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.errors import DataError
from raysafe.rl.mdp import Floats, TabularMDP

FLAT = 1e-9
"""A canonical reward that is smaller, relative to the reward's largest value, doesn't vary."""


def epic(
    first: Floats,
    second: Floats,
    gamma: float,
    states_S: Floats | None = None,
    actions_A: Floats | None = None,
    coverage_SAS: Floats | None = None,
) -> float:
    """The EPIC distance.

    states_S, actions_A: the distributions of states, next states and actions, uniform where None. coverage_SAS: which
    transitions count how much; these distributions' product where None.
    """
    states, actions = _sizes(first, second)
    states_S, actions_A = _distribution(states_S, states, "states_S"), _distribution(actions_A, actions, "actions_A")
    if coverage_SAS is None and first.ndim == second.ndim == 2:
        # the canonical reward is a sum of a part of (s, a) and one of s', which are independent
        weights = np.concatenate([(states_S[:, None] * actions_A).ravel(), states_S])
        made = []
        for rewards_SA in (first, second):
            means_S = rewards_SA @ actions_A
            own_SA, next_S = rewards_SA - means_S[:, None], gamma * (means_S - states_S @ means_S)
            own_SA = own_SA - states_S @ own_SA @ actions_A
            made.append(np.concatenate([own_SA.ravel(), next_S]))
        return _apart(made[0], made[1], weights, first, second)
    if coverage_SAS is None:
        coverage_SAS = states_S[:, None, None] * actions_A[:, None] * states_S
    weights = _distribution(coverage_SAS.ravel(), states * actions * states, "coverage_SAS")
    made = []
    for rewards in (first, second):
        rewards_SAS = np.broadcast_to(rewards if rewards.ndim == 3 else rewards[:, :, None], (states, actions, states))
        means_S = rewards_SAS @ states_S @ actions_A
        canonical_SAS = rewards_SAS + gamma * means_S - means_S[:, None, None] - gamma * (states_S @ means_S)
        made.append(_centred(canonical_SAS.ravel(), weights))
    return _apart(made[0], made[1], weights, first, second)


def dard(
    first: Floats,
    second: Floats,
    mdp: TabularMDP,
    gamma: float,
    actions_A: Floats | None = None,
    coverage_SA: Floats | None = None,
) -> float:
    """The DARD distance over the MDP's own transitions; what the tables say of terminal states counts as it stands.

    actions_A: the distribution of actions, uniform where None. coverage_SA: how much each state and action counts; all
    that aren't terminal alike, actions by actions_A, where None.
    """
    states, actions = _sizes(first, second)
    if (states, actions) != (mdp.states, mdp.actions):
        raise DataError(f"rewards are of {states} states and {actions} actions, the MDP of {mdp.states}, {mdp.actions}")
    actions_A = _distribution(actions_A, actions, "actions_A")
    alive_S = (~mdp.ends_S).astype(float)
    if coverage_SA is None:
        coverage_SA = (alive_S / alive_S.sum())[:, None] * actions_A
    coverage_R = _distribution((coverage_SA * alive_S[:, None]).ravel(), states * actions, "coverage_SA")
    rows = sparse.csr_array(mdp.rows)
    row_N, next_N = np.repeat(np.arange(states * actions), np.diff(rows.indptr)), rows.indices
    weights_N = coverage_R[row_N] * rows.data
    made = [
        _centred(_dynamic(rewards, rows, row_N, next_N, actions_A, gamma), weights_N) for rewards in (first, second)
    ]
    return _apart(made[0], made[1], weights_N, first, second)


def _dynamic(
    rewards: Floats, rows: sparse.csr_array, row_N: np.ndarray, next_N: np.ndarray, actions_A: Floats, gamma: float
) -> Floats:
    """DARD's canonical reward of each transition (N,) that the rows (S * A, S) allow."""
    states, actions = rewards.shape[:2]
    state_N = row_N // actions
    by_action = [sparse.csr_array(rows[action::actions]) for action in range(actions)]
    if rewards.ndim == 2:
        means_S = rewards @ actions_A
        later_S = np.sum([actions_A[a] * (by_action[a] @ rewards[:, a]) for a in range(actions)], axis=0)
        return rewards.ravel()[row_N] + gamma * means_S[next_N] - means_S[state_N] - gamma * later_S[state_N]
    expected_SA = np.stack([(by_action[a].multiply(rewards[:, a])).sum(axis=1) for a in range(actions)], axis=1)
    means_S = expected_SA @ actions_A
    later_SS = np.zeros((states, states))
    for action, moves_SS in enumerate(by_action):
        later_SS += actions_A[action] * (moves_SS @ (moves_SS @ rewards[:, action].T).T)
    own_N = rewards.reshape(-1, states)[row_N, next_N]
    return own_N + gamma * means_S[next_N] - means_S[state_N] - gamma * later_SS[state_N, next_N]


def _sizes(first: Floats, second: Floats) -> tuple[int, int]:
    for name, rewards in (("first", first), ("second", second)):
        if rewards.ndim not in (2, 3) or rewards.shape[:2] != first.shape[:2] or not np.isfinite(rewards).all():
            raise DataError(f"{name} must be a table of finite rewards (S, A) or (S, A, S), got {rewards.shape}")
        if rewards.ndim == 3 and rewards.shape[2] != rewards.shape[0]:
            raise DataError(f"{name} must be (S, A, S), got {rewards.shape}")
    return first.shape[0], first.shape[1]


def _distribution(weights: Floats | None, size: int, name: str) -> Floats:
    """Uniform where None; raises DataError where it is no distribution over `size` things."""
    if weights is None:
        return np.full(size, 1 / size)
    if weights.shape != (size,) or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise DataError(f"{name} must be {size} weights from 0 on that aren't all 0")
    return weights / weights.sum()


def _centred(values_N: Floats, weights_N: Floats) -> Floats:
    return values_N - weights_N @ values_N


def _apart(one_N: Floats, other_N: Floats, weights_N: Floats, first: Floats, second: Floats) -> float:
    """The distance of two centred canonical rewards: half of that between their directions, which is exact near 0."""
    sizes = [float(np.sqrt(weights_N @ values_N**2)) for values_N in (one_N, other_N)]
    flat = [size <= FLAT * np.abs(given).max() for size, given in zip(sizes, (first, second), strict=True)]
    if any(flat):
        return 0.0 if all(flat) else float(np.sqrt(0.5))
    return float(np.sqrt(weights_N @ (one_N / sizes[0] - other_N / sizes[1]) ** 2)) / 2
