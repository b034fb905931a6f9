"""What it costs to act on one reward where another counts, in a tabular MDP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import evaluate, optimal


@dataclass(frozen=True)
class ValueDifference:
    """Discounted values from the initial states: the best, a policy's, and that of uniformly random actions."""

    best: float
    policy: float
    random: float

    @property
    def lost(self) -> float:
        """The expected value difference (Levine et al. 2011)."""
        return self.best - self.policy

    @property
    def share(self) -> float:
        """The difference as a share of what separates the best from random actions; 0 where nothing does."""
        apart = self.best - self.random
        return self.lost / apart if apart > 1e-12 * max(1.0, abs(self.best)) else 0.0


def value_difference(
    mdp: TabularMDP, rewards_SA: Floats, policy: Floats, gamma: float, horizon: int | None = None
) -> ValueDifference:
    """Of a policy, (S, A) or with a horizon also (T, S, A), under the rewards that count."""
    uniform_SA = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
    values = (
        optimal(mdp, rewards_SA, gamma, horizon).values,
        evaluate(mdp, policy, rewards_SA, gamma, horizon),
        evaluate(mdp, uniform_SA, rewards_SA, gamma, horizon),
    )
    best, mine, random = (float(mdp.initial_S @ (found if horizon is None else found[0])) for found in values)
    return ValueDifference(best, mine, random)


def policy_regret(
    mdp: TabularMDP, true_SA: Floats, learned_SA: Floats, gamma: float, horizon: int | None = None
) -> ValueDifference:
    """Of the policy that is optimal for a learned reward, under the true one."""
    return value_difference(mdp, true_SA, optimal(mdp, learned_SA, gamma, horizon).policy, gamma, horizon)
