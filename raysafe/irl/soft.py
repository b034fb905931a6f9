"""Soft (maximum causal entropy) planning, and the derivatives of what it finds.

A soft-optimal policy maximises discounted reward plus the entropy of its actions (Ziebart 2010, chapter 6):
q = r + gamma P v, v = log sum_a exp q, pi = exp(q - v). Without a horizon: soft policy iteration, which is Newton's
method on that equation, one direct solve a step. With one: backward recursion, and arrays with a leading time axis T.
Everything is discounted by gamma; a terminal state's value is 0 and its policy uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raysafe.errors import TrainingError
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import backup, check
from raysafe.rl.policy_system import PolicySystem

MOST_STEPS = 500
"""Newton's method settles within some ten steps; rewards for which it doesn't lose all digits to rounding."""
SETTLED = 1e-12
"""Change of a policy's probabilities, relative to the largest value, that ends the iteration."""


@dataclass(frozen=True, eq=False)
class SoftPlan:
    """values (S,), q (S, A), log_policy (S, A); with a horizon (T, S), (T, S, A), (T, S, A)."""

    mdp: TabularMDP
    gamma: float
    values: Floats
    q: Floats
    log_policy: Floats
    system: PolicySystem | None
    """Of the policy; None with a horizon."""

    @cached_property
    def policy(self) -> Floats:
        return np.exp(self.log_policy)

    def visits(self, starts: Floats) -> Floats:
        """(S, A): discounted visits under the policy from `starts`, which may be any numbers.

        starts: (S,), or with a horizon also (T, S), where starts[t] join at time t. It is the gradient of the sum of
        starts * values with respect to the rewards (S, A), since that of a value is the occupancy that follows it.
        """
        if self.system is not None:
            return self.system.visits(starts)[:, None] * self.policy
        visits_SA, state_S = np.zeros(self.q.shape[1:]), np.zeros(self.q.shape[1])
        for joining_S, policy_SA in zip(self._over_time(starts), self.policy, strict=True):
            state_S = self._alive(state_S + joining_S)
            step_SA = state_S[:, None] * policy_SA
            visits_SA += step_SA
            state_S = self.gamma * self.mdp.arrivals(step_SA)
        return visits_SA

    def visits_change(self, starts: Floats, direction_SA: Floats) -> Floats:
        """(S, A): the derivative of `visits(starts)` as the rewards move in a direction."""
        if self.system is not None:
            policy_SA = self.policy
            values_S = self.system.values((policy_SA * direction_SA).sum(axis=1))
            turn_SA = self._turn(policy_SA, direction_SA, values_S, values_S)
            turned_SA = self.system.visits(starts)[:, None] * turn_SA
            return turned_SA + self.system.visits(self.gamma * self.mdp.arrivals(turned_SA))[:, None] * policy_SA
        turns, values_S = [], np.zeros(self.q.shape[1])
        for policy_SA in reversed(self.policy):
            next_S = values_S
            values_S = self._alive((policy_SA * backup(self.mdp, direction_SA, self.gamma, next_S)).sum(axis=1))
            turns.append(self._turn(policy_SA, direction_SA, values_S, next_S))
        change_SA = np.zeros(self.q.shape[1:])
        state_S, change_S = np.zeros((2, self.q.shape[1]))
        for joining_S, policy_SA, turn_SA in zip(self._over_time(starts), self.policy, reversed(turns), strict=True):
            state_S = self._alive(state_S + joining_S)
            step_SA = change_S[:, None] * policy_SA + state_S[:, None] * turn_SA
            change_SA += step_SA
            change_S = self.gamma * self.mdp.arrivals(step_SA)
            state_S = self.gamma * self.mdp.arrivals(state_S[:, None] * policy_SA)
        return change_SA

    def _turn(self, policy_SA: Floats, direction_SA: Floats, values_S: Floats, next_S: Floats) -> Floats:
        """The derivative of a policy: pi * (that of q - that of v)."""
        return policy_SA * (backup(self.mdp, direction_SA, self.gamma, next_S) - values_S[:, None])

    def _over_time(self, starts: Floats) -> Floats:
        starts_TS = np.zeros(self.q.shape[:2])
        starts_TS[: np.atleast_2d(starts).shape[0]] = starts
        return starts_TS

    def _alive(self, numbers_S: Floats) -> Floats:
        return numbers_S if self.mdp.terminal_S is None else np.where(self.mdp.ends_S, 0.0, numbers_S)


def soft_plan(
    mdp: TabularMDP, rewards_SA: Floats, gamma: float, horizon: int | None = None, near: SoftPlan | None = None
) -> SoftPlan:
    """The soft-optimal plan. near: one of similar rewards, from which the iteration starts.

    Raises ConfigError for gamma 1 without a horizon, TrainingError where rewards are too large for their digits.
    """
    check(gamma, horizon)
    if horizon is not None:
        return _backward(mdp, rewards_SA, gamma, horizon)
    values_S, log_policy_SA = _soft_max(mdp, backup(mdp, rewards_SA, gamma, _values_near(mdp, near)))
    for _ in range(MOST_STEPS):
        policy_SA = np.exp(log_policy_SA)
        system = PolicySystem(mdp, policy_SA, gamma)
        values_S = system.values((policy_SA * (rewards_SA - log_policy_SA)).sum(axis=1))
        q_SA = backup(mdp, rewards_SA, gamma, values_S)
        values_S, log_policy_SA = _soft_max(mdp, q_SA)
        moved = np.abs(np.exp(log_policy_SA) - policy_SA).max()
        if moved <= SETTLED * max(1.0, np.abs(values_S).max()):
            return SoftPlan(mdp, gamma, values_S, q_SA, log_policy_SA, system)
        if not np.isfinite(moved):
            break
    raise TrainingError(
        f"soft policy iteration doesn't settle: values reach {np.abs(values_S).max():.3g}, too "
        "large for their digits; give smaller rewards or a smaller gamma"
    )


def log_likelihood(plan: SoftPlan, counts: Floats) -> float:
    """The log-probability of actions under the plan's policy.

    counts: how often each action was taken, (S, A), or with a horizon (T, S, A).
    """
    return float((counts * plan.log_policy).sum())


def likelihood_flows(mdp: TabularMDP, counts: Floats, gamma: float) -> tuple[Floats, Floats]:
    """visits (S, A) and starts, so that the log-likelihood of counts is sum(visits * rewards) - sum(starts * values).

    From log pi = q - v: what is taken leaves its state, and comes, discounted, into the next ones. The gradient with
    respect to the rewards is therefore visits - SoftPlan.visits(starts). starts is (S,), or with a horizon (T, S).
    """
    left = counts.sum(axis=-1)
    if counts.ndim == 2:
        return counts, left - gamma * mdp.arrivals(counts)
    for time in range(1, len(counts)):
        left[time] -= gamma * mdp.arrivals(counts[time - 1])
    return counts.sum(axis=0), left


def _backward(mdp: TabularMDP, rewards_SA: Floats, gamma: float, horizon: int) -> SoftPlan:
    values_TS = np.zeros((horizon + 1, mdp.states))
    q_TSA = np.zeros((horizon, *rewards_SA.shape))
    log_policy_TSA = np.zeros_like(q_TSA)
    for time in reversed(range(horizon)):
        q_TSA[time] = backup(mdp, rewards_SA, gamma, values_TS[time + 1])
        values_TS[time], log_policy_TSA[time] = _soft_max(mdp, q_TSA[time])
    return SoftPlan(mdp, gamma, values_TS[:-1], q_TSA, log_policy_TSA, None)


def _values_near(mdp: TabularMDP, near: SoftPlan | None) -> Floats:
    return np.zeros(mdp.states) if near is None else near.values


def _soft_max(mdp: TabularMDP, q_SA: Floats) -> tuple[Floats, Floats]:
    """values_S and log_policy_SA; the largest is taken out before exp, so that none overflows."""
    top_S = q_SA.max(axis=1)
    values_S = top_S + np.log(np.exp(q_SA - top_S[:, None]).sum(axis=1))
    log_policy_SA = q_SA - values_S[:, None]
    if mdp.terminal_S is not None:
        values_S[mdp.ends_S] = 0.0
    return values_S, log_policy_SA
