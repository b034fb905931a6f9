"""Exact planning in a TabularMDP: optimal values, values of a policy, and its occupancy.

Without a horizon: policy iteration (Howard 1960) with a direct solve for each policy, gamma below 1. With one:
backward induction, any gamma up to 1, and arrays with a leading time axis T. Rewards are (S, A), earned by the step
taken in a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysafe.errors import ConfigError
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.policy_system import PolicySystem

TIE = 1e-10
"""Actions whose values differ by less count as equally good, relative to the largest value."""


@dataclass(frozen=True)
class Plan:
    """values_S, q_SA, policy_SA; with a horizon (T, S), (T, S, A) each. Policies are deterministic: the first of the
    best actions."""

    values: Floats
    q: Floats
    policy: Floats


def optimal(mdp: TabularMDP, rewards_SA: Floats, gamma: float, horizon: int | None = None) -> Plan:
    """The best that can be had. Raises ConfigError for gamma 1 without a horizon."""
    check(gamma, horizon)
    if horizon is not None:
        return _backward(mdp, rewards_SA, gamma, horizon)
    policy_SA = greedy(rewards_SA)
    while True:
        values_S = evaluate(mdp, policy_SA, rewards_SA, gamma)
        q_SA = backup(mdp, rewards_SA, gamma, values_S)
        better_S = q_SA.max(axis=1) > (policy_SA * q_SA).sum(axis=1) + TIE * max(1.0, np.abs(q_SA).max())
        if not better_S.any():
            return Plan(values_S, q_SA, greedy(q_SA))
        policy_SA = np.where(better_S[:, None], greedy(q_SA), policy_SA)


def evaluate(mdp: TabularMDP, policy: Floats, rewards_SA: Floats, gamma: float, horizon: int | None = None) -> Floats:
    """values_S of a policy (S, A); with a horizon values_TS, the policy being (S, A) or (T, S, A)."""
    check(gamma, horizon)
    if horizon is None:
        return PolicySystem(mdp, policy, gamma).values((policy * rewards_SA).sum(axis=1))
    values_TS = np.zeros((horizon + 1, mdp.states))
    policies = np.broadcast_to(policy, (horizon, *rewards_SA.shape))
    for time in reversed(range(horizon)):
        values_TS[time] = (policies[time] * backup(mdp, rewards_SA, gamma, values_TS[time + 1])).sum(axis=1)
    return values_TS[:-1]


def occupancy(mdp: TabularMDP, policy: Floats, gamma: float, horizon: int | None = None) -> Floats:
    """(S, A): the sum over time of gamma^t P(state, action at t) from the initial states, none in terminal ones."""
    check(gamma, horizon)
    if horizon is None:
        return PolicySystem(mdp, policy, gamma).visits(mdp.initial_S)[:, None] * policy
    visits_SA = np.zeros((mdp.states, mdp.actions))
    policies = np.broadcast_to(policy, (horizon, *visits_SA.shape))
    state_S = np.where(mdp.ends_S, 0.0, mdp.initial_S)
    for time in range(horizon):
        step_SA = state_S[:, None] * policies[time]
        visits_SA += step_SA
        state_S = gamma * mdp.arrivals(step_SA)
    return visits_SA


def backup(mdp: TabularMDP, rewards_SA: Floats, gamma: float, values_S: Floats) -> Floats:
    """q_SA from the values of next states; 0 in terminal states."""
    q_SA = rewards_SA + gamma * mdp.expected(values_S)
    q_SA[mdp.ends_S] = 0.0
    return q_SA


def greedy(q_SA: Floats) -> Floats:
    """One action a state, the first of the best."""
    best_S1 = q_SA.max(axis=-1, keepdims=True)
    first_S = np.argmax(q_SA >= best_S1 - TIE * np.maximum(1.0, np.abs(best_S1)), axis=-1)
    return np.eye(q_SA.shape[-1])[first_S]


def check(gamma: float, horizon: int | None) -> None:
    """Raise ConfigError for a discount and a horizon that give no finite values."""
    if not 0 <= gamma <= 1 or (horizon is None and gamma == 1):
        raise ConfigError(f"gamma must be in [0, 1), or in [0, 1] with a horizon, got {gamma}")
    if horizon is not None and horizon < 1:
        raise ConfigError(f"horizon must be at least 1, got {horizon}")


def _backward(mdp: TabularMDP, rewards_SA: Floats, gamma: float, horizon: int) -> Plan:
    values_TS = np.zeros((horizon + 1, mdp.states))
    q_TSA = np.zeros((horizon, *rewards_SA.shape))
    for time in reversed(range(horizon)):
        q_TSA[time] = backup(mdp, rewards_SA, gamma, values_TS[time + 1])
        values_TS[time] = q_TSA[time].max(axis=1)
    return Plan(values_TS[:-1], q_TSA, greedy(q_TSA))
