"""Planning for an agent that can't tell some states apart."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.rl.envs.table import Ints, Table
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import occupancy
from raysafe.rl.remedies.remedy import plan

EXPLORATION, ROUNDS = 0.1, 20


def merged(made: Table, group_S: Ints, weight_S: Floats) -> tuple[TabularMDP, Floats]:
    """States that look the same as one, whose rewards and transitions are the mean of theirs by weight.

    Exact where which of them it is was drawn before the episode, isn't acted on, and nothing tells of it later.
    """
    groups = int(group_S.max()) + 1
    into = sparse.csr_array((np.ones(len(group_S)), (np.arange(len(group_S)), group_S)), (len(group_S), groups))
    share_S = weight_S / (into @ (into.T @ weight_S))
    actions = made.rewards_SA.shape[1]
    mean = (into.multiply(share_S[:, None])).T
    pairs = sparse.csr_array(sparse.kron(mean, sparse.eye_array(actions)))
    rows = pairs @ sparse.csr_array(made.mdp.rows) @ into
    ends_G = np.asarray(mean @ made.terminal_S.astype(float)) == 1
    return TabularMDP(sparse.csr_array(rows), into.T @ made.initial_S, ends_G), mean @ made.rewards_SA


def settled(made: Table, horizon: int) -> Floats:
    """(T, S, A): the policy over views that an agent comes to which plans on the mean of what it met, acts, and plans
    again, as a learner with a table over views does; a deterministic one, which may not be the best there is.

    A tenth of its steps while learning are random. Where all states can be told apart, it's the best policy.
    """
    if len(made.views) == len(made.states):
        return plan(made.mdp, made.rewards_SA, horizon)
    even_SA = np.full_like(made.rewards_SA, 1 / made.rewards_SA.shape[1])
    policy_TSA = np.broadcast_to(even_SA, (horizon, *even_SA.shape))
    met_S = np.zeros(len(made.states))
    for _ in range(ROUNDS):
        acted_TSA = (1 - EXPLORATION) * policy_TSA + EXPLORATION * even_SA
        met_S = met_S + occupancy(made.mdp, acted_TSA, 1.0, horizon).sum(axis=1)
        policy_TSA = plan(*merged(made, made.view_S, met_S), horizon)[:, made.view_S]
    return policy_TSA
