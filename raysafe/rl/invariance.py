"""Whether shaped rewards keep the task: the sets of greedy actions under true and shaped rewards, state by state.

Ng, Harada and Russell 1999: potential-based shaping of states keeps every optimal policy in every task, and nothing
else does. Sets are compared, not one action each, for shaping that breaks a tie changes the task as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysafe.rl.mdp import Flags, Floats, TabularMDP
from raysafe.rl.planning import TIE, backup, check, optimal


@dataclass(frozen=True)
class Invariance:
    """changed: flags (S,), or (T, S) with a horizon, of the states whose greedy actions differ, terminal ones never.

    loss_S: what the worst of the shaped greedy actions gives up at its state, in true value; 0 where nothing changed.
    """

    changed: Flags
    loss: Floats

    @property
    def unchanged(self) -> bool:
        return not self.changed.any()

    def __str__(self) -> str:
        if self.unchanged:
            return f"keeps the task: the same greedy actions in all {self.changed.size} states"
        return (
            f"changes the task: other greedy actions in {self.changed.sum()} of {self.changed.size} states, "
            f"which give up at most {self.loss.max():.3g} in one step"
        )


def invariance(
    mdp: TabularMDP, rewards: Floats, shaped: Floats, gamma: float, horizon: int | None = None
) -> Invariance:
    """Compare the greedy actions under true and shaped rewards, both (S, A), or with a horizon T also (T, S, A).

    Raises ConfigError for a gamma and horizon that give no finite values.
    """
    return compare(q_values(mdp, rewards, gamma, horizon), q_values(mdp, shaped, gamma, horizon), mdp)


def compare(q: Floats, shaped_q: Floats, mdp: TabularMDP) -> Invariance:
    """Compare the greedy actions of two tables of action values, each (S, A) or (T, S, A)."""
    true, shaped = greedy_actions(q), greedy_actions(shaped_q)
    changed = (true != shaped).any(axis=-1) & ~mdp.ends_S
    given_up = q.max(axis=-1) - np.where(shaped, q, np.inf).min(axis=-1)
    return Invariance(changed, np.where(changed, given_up, 0.0))


def greedy_actions(q: Floats) -> Flags:
    """Flags of all actions that are as good as the best, but for rounding errors (`planning.TIE`)."""
    scale = max(1.0, float(np.abs(q).max()))
    return q >= q.max(axis=-1, keepdims=True) - TIE * scale


def q_values(mdp: TabularMDP, rewards: Floats, gamma: float, horizon: int | None = None) -> Floats:
    """Optimal action values; with a horizon (T, S, A), the rewards being (S, A) or (T, S, A)."""
    check(gamma, horizon)
    if horizon is None:
        return optimal(mdp, rewards, gamma).q
    rewards_TSA = np.broadcast_to(rewards, (horizon, mdp.states, mdp.actions))
    q_TSA, values_S = np.zeros(rewards_TSA.shape), np.zeros(mdp.states)
    for time in reversed(range(horizon)):
        q_TSA[time] = backup(mdp, rewards_TSA[time], gamma, values_S)
        values_S = q_TSA[time].max(axis=1)
    return q_TSA
