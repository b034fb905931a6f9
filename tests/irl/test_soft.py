"""Soft planning against value iteration and numbers by hand; its derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from raysafe.errors import ConfigError, TrainingError
from raysafe.irl.soft import likelihood_flows, log_likelihood, soft_plan
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import occupancy, optimal
from tests.irl.problems import grid, random_mdp, sparse_of

SEEDS = st.integers(0, 10_000)
HORIZONS = st.sampled_from([None, 1, 6])
STEP = 1e-5


def rewards_of(seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 3), scale=scale)


@settings(max_examples=8)
@given(SEEDS, st.booleans(), st.sampled_from([0.0, 0.5, 0.95]))
def test_newtons_method_ends_where_value_iteration_does(seed: int, terminal: bool, gamma: float) -> None:
    mdp, rewards_SA = random_mdp(seed, terminal=terminal), rewards_of(seed, 3.0)
    values_S = np.zeros(5)
    for _ in range(500 if gamma > 0.9 else 60):
        q_SA = rewards_SA + gamma * (np.asarray(mdp.transitions) @ values_S)
        values_S = np.where(mdp.ends_S, 0.0, np.logaddexp.reduce(q_SA, axis=1))
    plan = soft_plan(mdp, rewards_SA, gamma)
    assert plan.values == pytest.approx(values_S, abs=1e-9)
    assert plan.policy[:4] == pytest.approx(softmax(q_SA, axis=1)[:4], abs=1e-9)


@settings(max_examples=8)
@given(SEEDS, HORIZONS)
def test_dense_and_sparse_transitions_agree(seed: int, horizon: int | None) -> None:
    mdp, rewards_SA = random_mdp(seed), rewards_of(seed)
    dense, thin = soft_plan(mdp, rewards_SA, 0.9, horizon), soft_plan(sparse_of(mdp), rewards_SA, 0.9, horizon)
    assert thin.values == pytest.approx(dense.values, abs=1e-12)
    assert thin.visits(mdp.initial_S) == pytest.approx(dense.visits(mdp.initial_S), abs=1e-12)


def test_two_steps_by_hand() -> None:
    """One state, rewards 0 and log 3: the last step is worth log 4, and the step before as much and gamma of it."""
    mdp = TabularMDP(np.ones((1, 2, 1)), np.ones(1))
    plan = soft_plan(mdp, np.array([[0.0, np.log(3)]]), 0.5, horizon=2)
    assert plan.values.ravel() == pytest.approx([1.5 * np.log(4), np.log(4)], abs=1e-12)
    assert plan.policy == pytest.approx(np.array([[[0.25, 0.75]], [[0.25, 0.75]]]), abs=1e-12)
    assert soft_plan(mdp, np.array([[0.0, np.log(3)]]), 0.5).values == pytest.approx([2 * np.log(4)], abs=1e-12)


@settings(max_examples=8)
@given(SEEDS, HORIZONS)
def test_visits_are_the_policys_occupancy(seed: int, horizon: int | None) -> None:
    mdp = random_mdp(seed)
    plan = soft_plan(mdp, rewards_of(seed), 0.9, horizon)
    expected_SA = occupancy(mdp, plan.policy, 0.9, horizon)
    assert plan.visits(mdp.initial_S) == pytest.approx(expected_SA, abs=1e-9)


@settings(max_examples=8)
@given(SEEDS, HORIZONS, st.sampled_from([0.3, 0.9]))
def test_visits_are_the_gradient_of_values(seed: int, horizon: int | None, gamma: float) -> None:
    mdp, rewards_SA = random_mdp(seed), rewards_of(seed)
    starts = np.random.default_rng(seed).normal(size=5 if horizon is None else (horizon, 5))
    slopes_SA = np.zeros((5, 3))
    for place in np.ndindex(5, 3):
        step_SA = np.zeros((5, 3))
        step_SA[place] = STEP
        ahead, behind = (soft_plan(mdp, rewards_SA + sign * step_SA, gamma, horizon).values for sign in (1, -1))
        slopes_SA[place] = (starts * (ahead - behind)).sum() / (2 * STEP)
    assert soft_plan(mdp, rewards_SA, gamma, horizon).visits(starts) == pytest.approx(slopes_SA, abs=1e-7)


@settings(max_examples=8)
@given(SEEDS, HORIZONS)
def test_the_change_of_visits_is_their_derivative(seed: int, horizon: int | None) -> None:
    mdp, rewards_SA = random_mdp(seed), rewards_of(seed)
    direction_SA = rewards_of(seed + 1)
    starts = np.random.default_rng(seed).normal(size=5 if horizon is None else (horizon, 5))
    ahead, behind = (
        soft_plan(mdp, rewards_SA + sign * STEP * direction_SA, 0.9, horizon).visits(starts) for sign in (1, -1)
    )
    found_SA = soft_plan(mdp, rewards_SA, 0.9, horizon).visits_change(starts, direction_SA)
    assert found_SA == pytest.approx((ahead - behind) / (2 * STEP), abs=1e-6)


@settings(max_examples=8)
@given(SEEDS, HORIZONS)
def test_the_gradient_of_the_log_likelihood_is_that_of_finite_differences(seed: int, horizon: int | None) -> None:
    mdp, rewards_SA = random_mdp(seed), rewards_of(seed)
    shape = (5, 3) if horizon is None else (horizon, 5, 3)
    counts: Floats = np.random.default_rng(seed).exponential(2.0, shape) * np.where(mdp.ends_S, 0.0, 1.0)[:, None]
    visits_SA, starts = likelihood_flows(mdp, counts, 0.9)
    plan = soft_plan(mdp, rewards_SA, 0.9, horizon)
    assert log_likelihood(plan, counts) == pytest.approx(
        (visits_SA * rewards_SA).sum() - (starts * plan.values).sum(), rel=1e-9, abs=1e-9
    )
    gradient_SA = visits_SA - plan.visits(starts)
    for place in np.ndindex(5, 3):
        step_SA = np.zeros((5, 3))
        step_SA[place] = STEP
        ahead, behind = (
            log_likelihood(soft_plan(mdp, rewards_SA + sign * step_SA, 0.9, horizon), counts) for sign in (1, -1)
        )
        assert gradient_SA[place] == pytest.approx((ahead - behind) / (2 * STEP), abs=1e-5)


def test_large_rewards_neither_overflow_nor_differ_from_the_optimum() -> None:
    mdp, rewards_SA = grid(8), 1e4 * np.random.default_rng(0).normal(size=(64, 4))
    plan, best = soft_plan(mdp, rewards_SA, 0.9), optimal(mdp, rewards_SA, 0.9)
    assert np.isfinite(plan.log_policy).all()
    assert plan.values == pytest.approx(best.values, rel=1e-3)
    assert (plan.policy.argmax(axis=1) == best.policy.argmax(axis=1)).all()


def test_a_start_nearby_leads_to_the_same_plan() -> None:
    mdp, rewards_SA = random_mdp(0), rewards_of(0)
    near = soft_plan(mdp, 5 * rewards_SA, 0.99)
    assert soft_plan(mdp, rewards_SA, 0.99, near=near).values == pytest.approx(
        soft_plan(mdp, rewards_SA, 0.99).values, abs=1e-10
    )


def test_what_has_no_finite_values_is_refused() -> None:
    mdp = random_mdp(0)
    with pytest.raises(ConfigError, match="with a horizon, got 1"):
        soft_plan(mdp, rewards_of(0), 1.0)
    with pytest.raises(TrainingError, match="give smaller rewards"):
        soft_plan(mdp, np.full((5, 3), np.nan), 0.9)
