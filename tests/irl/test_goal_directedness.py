"""Goal-directedness against its definition, and the properties that its paper proves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.irl.features import Features
from raysafe.irl.goal_directedness import goal_directedness, goal_directedness_to_features
from raysafe.irl.soft import soft_plan
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import occupancy, optimal
from tests.examples import examples
from tests.rl.test_planning import random_mdp

GAMMA, HORIZON = 1.0, 6
seeds = st.integers(0, 10_000)


def soft_policy(mdp: TabularMDP, rewards_SA: np.ndarray) -> np.ndarray:
    """Where the episode has ended there are choices too, of nothing: (T, S, A)."""
    return soft_plan(mdp.absorbing(), np.where(mdp.ends_S[:, None], 0.0, rewards_SA), GAMMA, HORIZON).policy


def by_definition(mdp: TabularMDP, policy: np.ndarray, utility_SA: np.ndarray, beta: float) -> float:
    """E_pi[sum_t log pi_beta + log |A|], summed over time steps one by one."""
    logs_TSA = np.log(soft_policy(mdp, beta * utility_SA))
    state_S, total = np.where(mdp.ends_S, 0.0, mdp.initial_S), 0.0
    for policy_SA, log_SA in zip(np.broadcast_to(policy, logs_TSA.shape), logs_TSA, strict=True):
        step_SA = state_S[:, None] * policy_SA
        total += float((step_SA * (log_SA + np.log(mdp.actions))).sum())
        state_S = np.where(mdp.ends_S, 0.0, mdp.rows.T @ step_SA.ravel())
    return total


def random_policy(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(2), 4)


@settings(max_examples=examples(20))
@given(seeds)
def test_no_beta_predicts_better(seed: int) -> None:
    mdp, utility_SA = random_mdp(seed)
    policy_SA = random_policy(seed)
    found = goal_directedness(mdp, policy_SA, utility_SA, GAMMA, HORIZON)
    assert by_definition(mdp, policy_SA, utility_SA, float(found.weights[0])) == pytest.approx(found.nats, abs=1e-6)
    others = [by_definition(mdp, policy_SA, utility_SA, beta) for beta in np.linspace(-20, 20, 9)]
    assert max(others) <= found.nats + 1e-6 * found.most + 1e-9


@settings(max_examples=examples(20))
@given(seeds, st.floats(0.2, 3))
def test_a_soft_optimal_policy_has_its_own_beta(seed: int, beta: float) -> None:
    mdp, utility_SA = random_mdp(seed)
    policy_TSA = soft_policy(mdp, beta * utility_SA)
    found = goal_directedness(mdp, policy_TSA, utility_SA, GAMMA, HORIZON)
    assert found.weights[0] == pytest.approx(beta, rel=1e-4)


@given(seeds, st.sampled_from([-3.0, -1.0, 0.1, 50.0]))
def test_scale_and_sign_of_the_utility_do_not_matter(seed: int, factor: float) -> None:
    mdp, utility_SA = random_mdp(seed)
    one, other = (
        goal_directedness(mdp, random_policy(seed), scale * utility_SA, GAMMA, HORIZON) for scale in (1.0, factor)
    )
    assert other.nats == pytest.approx(one.nats, abs=1e-5 * one.most)


@given(seeds)
def test_acting_by_lot_has_none(seed: int) -> None:
    mdp, utility_SA = random_mdp(seed)
    assert goal_directedness(mdp, np.full((4, 2), 0.5), utility_SA, GAMMA, HORIZON).nats == pytest.approx(0, abs=1e-9)


def test_a_utility_that_no_choice_moves_has_none() -> None:
    mdp, _ = random_mdp(3, terminal=False)
    assert goal_directedness(mdp, random_policy(3), np.ones((4, 2)), GAMMA, HORIZON).nats == pytest.approx(0, abs=1e-9)


@given(seeds)
def test_an_optimal_policy_is_predicted_almost_perfectly_and_its_opposite_as_well_as_what_avoids(seed: int) -> None:
    mdp, utility_SA = random_mdp(seed, terminal=False)
    for sign in (1, -1):
        plan = optimal(mdp, sign * utility_SA, GAMMA, HORIZON)
        found = goal_directedness(mdp, plan.policy, utility_SA, GAMMA, HORIZON)
        gap = float(np.abs(plan.q[..., 0] - plan.q[..., 1]).min()) / float(np.ptp(utility_SA))
        assert found.share > 0.97 or gap < 0.05
        assert np.sign(found.weights[0]) == sign


@given(seeds)
def test_the_best_of_all_utilities_predicts_at_least_as_well_as_the_true_one(seed: int) -> None:
    mdp, utility_SA = random_mdp(seed)
    policy_TSA = soft_policy(mdp, 2 * utility_SA)
    features = Features(np.eye(8).reshape(4, 2, 8), 4, 2)
    known = goal_directedness(mdp, policy_TSA, utility_SA, GAMMA, HORIZON)
    assert goal_directedness_to_features(mdp, policy_TSA, features, GAMMA, HORIZON).nats >= known.nats - 1e-5


@given(seeds)
def test_one_feature_is_a_known_utility(seed: int) -> None:
    mdp, utility_SA = random_mdp(seed)
    features = Features(utility_SA[..., None], 4, 2)
    known = goal_directedness(mdp, random_policy(seed), utility_SA, 0.9)
    found = goal_directedness_to_features(mdp, random_policy(seed), features, 0.9)
    assert found.nats == pytest.approx(known.nats, abs=1e-5 * known.most)


def test_discounted_visits_bound_it() -> None:
    mdp, utility_SA = random_mdp(5)
    found = goal_directedness(mdp, random_policy(5), utility_SA, 0.9)
    assert found.most == pytest.approx(occupancy(mdp, random_policy(5), 0.9).sum() * np.log(2))
    assert 0 < found.nats < found.most
