"""Maximum-entropy goal-directedness, MEG (MacDermott, Fox, Belardinelli and Everitt 2024): how well a policy's choices
are predicted by supposing that it pursues a goal, over supposing that it acts by lot, in nats.

Of a known utility (definition 3.2): the largest over beta of E_pi[sum_t log pi_beta(a_t | s_t) + log |A|], pi_beta
being soft-optimal for beta times the utility. beta may be negative: what is avoided is a goal too. With q and v of
soft planning from uniform choices log pi_beta = q - v: the sum telescopes to beta E_pi[utility] - v_beta(start), which
is concave. Of unknown utilities, linear in features (section 4.2): the largest over weights in place of beta.
Everything is discounted by gamma where that is below 1. An episode that has ended counts as one that goes on with
choices that change nothing, so that a long one is no sign of a goal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from raysafe.irl.features import Features
from raysafe.irl.soft import SoftPlan, soft_plan
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import occupancy

MOST_RATIONAL = 200.0
"""Of beta, in units of one over the spread of the utility: beyond it a policy counts as perfectly rational."""
ENOUGH = 1e-6
"""Share of what is possible that a larger beta must add."""


@dataclass(frozen=True, eq=False)
class GoalDirectedness:
    """nats: MEG. most: what a policy that is predicted perfectly would have. weights: beta as one number, or (F,)."""

    nats: float
    most: float
    weights: Floats

    @property
    def share(self) -> float:
        """Between 0, acting by lot, and 1."""
        return self.nats / self.most if self.most else 0.0


def goal_directedness(
    mdp: TabularMDP, policy: Floats, utility_SA: Floats, gamma: float, horizon: int | None = None
) -> GoalDirectedness:
    """MEG of a policy, (S, A) or with a horizon (T, S, A), for a utility. Invariant to its scale and its sign."""
    visits_SA = occupancy(mdp, policy, gamma, horizon)
    most = _most(mdp, visits_SA)
    spread = float(np.ptp(utility_SA[~mdp.ends_S])) if not mdp.ends_S.all() else 0.0
    if spread == 0:
        # no choice is told apart where nothing is better than anything else, unless by when an episode ends
        spread = float(np.abs(utility_SA).max()) or 1.0
    gained = float((visits_SA * utility_SA).sum())

    def slope(beta: float) -> tuple[float, float]:
        """d/dbeta of the objective, and the objective."""
        plan = _from_uniform(mdp, beta * utility_SA, gamma, horizon)
        expected = float((plan.visits(mdp.initial_S) * utility_SA).sum())
        return gained - expected, beta * gained - _at_start(mdp, plan)

    first, _ = slope(0.0)
    if abs(first) <= 1e-12 * max(1.0, abs(gained)):
        return GoalDirectedness(0.0, most, np.array([0.0]))
    near, step, value = 0.0, float(np.sign(first)) / spread, 0.0
    while True:
        there, better = slope(step)
        if np.sign(there) != np.sign(first):
            beta = optimize.root_scalar(lambda at: slope(at)[0], bracket=(near, step), xtol=1e-10).root
            return GoalDirectedness(max(0.0, slope(beta)[1]), most, np.array([beta]))
        if better - value <= ENOUGH * most or abs(step) * spread >= MOST_RATIONAL:
            return GoalDirectedness(max(0.0, better), most, np.array([step]))
        near, step, value = step, 2 * step, better


def goal_directedness_to_features(
    mdp: TabularMDP, policy: Floats, features: Features, gamma: float, horizon: int | None = None
) -> GoalDirectedness:
    """MEG for the utility, linear in features, that predicts the policy best; at least that of any such utility.

    Weights are kept within MOST_RATIONAL over each feature's spread.
    """
    visits_SA = occupancy(mdp, policy, gamma, horizon)
    gained_F = features.expected(visits_SA)

    def loss(weights_F: Floats) -> tuple[float, Floats]:
        plan = _from_uniform(mdp, features.rewards(weights_F), gamma, horizon)
        slope_F = gained_F - features.expected(plan.visits(mdp.initial_S))
        return _at_start(mdp, plan) - float(weights_F @ gained_F), -slope_F

    most = _most(mdp, visits_SA)
    bound = MOST_RATIONAL / max(1e-12, float(abs(features.rows).max()))
    found = optimize.minimize(
        loss,
        np.zeros(features.count),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-bound, bound)] * features.count,
        options={"ftol": 1e-12, "gtol": 1e-9, "maxiter": 1000},
    )
    return GoalDirectedness(max(0.0, -float(found.fun)), most, found.x)


def _from_uniform(mdp: TabularMDP, rewards_SA: Floats, gamma: float, horizon: int | None) -> SoftPlan:
    """Soft planning in which an action's logarithm is taken against one by lot."""
    return soft_plan(mdp, rewards_SA - np.log(mdp.actions), gamma, horizon)


def _at_start(mdp: TabularMDP, plan: SoftPlan) -> float:
    values_S = plan.values if plan.values.ndim == 1 else plan.values[0]
    return float(np.where(mdp.ends_S, 0.0, mdp.initial_S) @ values_S)


def _most(mdp: TabularMDP, visits_SA: Floats) -> float:
    return float(visits_SA.sum() * np.log(mdp.actions))
