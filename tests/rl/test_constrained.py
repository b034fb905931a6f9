"""Constrained problems: the linear programme against numbers by hand, enumeration, and ascent on its dual."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import DataError
from raysafe.rl.constrained import constrained_optimum, dual_ascent, shielded
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.multiplier import Multiplier, MultiplierSettings
from raysafe.rl.planning import evaluate, occupancy, optimal
from tests.rl.test_planning import random_mdp

GAMMA = 0.9


def test_two_ways_by_hand() -> None:
    """One step: 3 for a cost of 1, or 1 for none. A limit of 0.25 is used up: 0.25 * 3 + 0.75 * 1, at 2 a unit."""
    mdp = TabularMDP(np.array([[[0.0, 1], [0, 1]], [[0, 1], [0, 1]]]), np.array([1.0, 0]), np.array([False, True]))
    rewards_SA, costs_SA = np.array([[3.0, 1], [0, 0]]), np.array([[1.0, 0], [0, 0]])
    best = constrained_optimum(mdp, rewards_SA, costs_SA, 0.25, GAMMA)
    assert best.policy_SA[0] == pytest.approx([0.25, 0.75])
    assert [best.reward, best.cost, best.multiplier] == pytest.approx([1.5, 0.25, 2.0])


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_a_limit_that_binds_is_kept_by_a_mixture_of_two_policies(seed: int) -> None:
    """The optimum is the upper hull, at the limit, of all deterministic policies' (cost, reward)."""
    mdp, rewards_SA = random_mdp(seed)
    costs_SA = np.random.default_rng(seed + 1).uniform(size=rewards_SA.shape)
    points = []
    for choice in itertools.product(range(2), repeat=3):
        visits_SA = occupancy(mdp, np.eye(2)[[*choice, 0]], GAMMA)
        points.append(((visits_SA * costs_SA).sum(), (visits_SA * rewards_SA).sum()))
    costs, rewards = np.array(points).T
    limit = float(np.quantile(costs, 0.3))
    hull = max(
        rewards[i] if i == j else rewards[i] + (rewards[j] - rewards[i]) * (limit - costs[i]) / (costs[j] - costs[i])
        for i, j in itertools.product(range(8), repeat=2)
        if (i == j and costs[i] <= limit) or (costs[i] <= limit < costs[j])
    )
    best = constrained_optimum(mdp, rewards_SA, costs_SA, limit, GAMMA)
    assert best.reward == pytest.approx(hull, abs=1e-7)
    assert best.cost <= limit + 1e-7
    assert float(mdp.initial_S @ evaluate(mdp, best.policy_SA, rewards_SA, GAMMA)) == pytest.approx(best.reward)


def test_ascent_on_the_dual_comes_near_the_linear_programme() -> None:
    mdp, rewards_SA = random_mdp(3, states=6)
    costs_SA = np.random.default_rng(4).uniform(size=rewards_SA.shape)
    visits_SA = occupancy(mdp, optimal(mdp, rewards_SA, GAMMA).policy, GAMMA)
    freely, limit = float((visits_SA * rewards_SA).sum()), 0.6 * float((visits_SA * costs_SA).sum())
    best = constrained_optimum(mdp, rewards_SA, costs_SA, limit, GAMMA)
    found = dual_ascent(
        mdp, rewards_SA, costs_SA, limit, GAMMA, settings=MultiplierSettings(integral=0.05), updates=120
    )
    assert best.reward < 0.95 * freely
    assert found.reward == pytest.approx(best.reward, rel=0.01)
    assert found.cost == pytest.approx(limit, rel=0.01)
    assert found.multiplier == pytest.approx(best.multiplier, rel=0.1)


def test_a_limit_that_does_not_bind_costs_nothing() -> None:
    mdp, rewards_SA = random_mdp(3)
    best = constrained_optimum(mdp, rewards_SA, np.ones_like(rewards_SA), 100.0, GAMMA)
    assert best.reward == pytest.approx(float(mdp.initial_S @ optimal(mdp, rewards_SA, GAMMA).values))
    assert best.multiplier == pytest.approx(0)


def test_a_limit_that_no_policy_keeps_is_refused_with_the_least() -> None:
    mdp, rewards_SA = random_mdp(3, terminal=False)
    with pytest.raises(DataError, match="within 1: the least that can be had is 10"):
        constrained_optimum(mdp, rewards_SA, np.ones_like(rewards_SA), 1.0, GAMMA)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_a_plan_behind_a_shield_is_the_best_of_the_allowed_policies(seed: int) -> None:
    mdp, rewards_SA = random_mdp(seed, states=3, actions=3)
    allowed_SA = np.random.default_rng(seed).uniform(size=(3, 3)) < 0.6
    allowed_SA[np.arange(3), np.random.default_rng(seed).integers(3, size=3)] = True
    choices = itertools.product(*(np.flatnonzero(row) for row in allowed_SA))
    best_S = np.max([evaluate(mdp, np.eye(3)[list(choice)], rewards_SA, GAMMA) for choice in choices], axis=0)
    assert optimal(*shielded(mdp, rewards_SA, allowed_SA), GAMMA).values == pytest.approx(best_S, abs=1e-9)


def test_a_state_that_allows_nothing_is_refused() -> None:
    mdp, rewards_SA = random_mdp(0, terminal=False)
    with pytest.raises(DataError, match="state 2 and 0 more allow no action"):
        shielded(mdp, rewards_SA, np.arange(8).reshape(4, 2) // 2 != 2)


def test_a_multiplier_by_hand() -> None:
    """Excess of 2, 4 and -9 above a limit of 1: the sum 0.2, 0.6, 0; twice the excess, and 3 times the rise of 2."""
    multiplier = Multiplier.start(MultiplierSettings(integral=0.1, proportional=2, derivative=3, largest=20), 1.0)
    assert [multiplier.update(cost) for cost in (3.0, 5.0, -8.0)] == pytest.approx([4.2, 14.6, 0.0])
    again = Multiplier.start(multiplier.settings, 1.0)
    again.set_state(multiplier.state())
    assert again.update(100.0) == multiplier.update(100.0) == 20.0
