"""Rationality: closed form in a bandit, planted betas within their intervals, a gradient against differences."""

from __future__ import annotations

from math import comb, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import expit

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError
from raysafe.irl.features import Features
from raysafe.irl.rationality import (
    Model,
    boltzmann_policy,
    infer_rationality,
    joint_objective,
    joint_rationality,
)
from raysafe.rl.mdp import TabularMDP
from tests.irl.problems import random_mdp, walks

BANDIT = TabularMDP(np.ones((1, 2, 1)), np.ones(1))


def pulls(better: int, worse: int) -> list[Trajectory]:
    steps = better + worse
    return [Trajectory(states_T1=[0] * (steps + 1), actions_T=[1] * better + [0] * worse)]


def shown(mdp: TabularMDP, policy_SA: np.ndarray, number: int, seed: int, steps: int = 25) -> list[Trajectory]:
    return [one for one in walks(mdp, policy_SA, steps, number, seed) if len(one.actions_T)]


@pytest.mark.parametrize("model", ["optimal", "soft"])
@given(better=st.integers(2, 60), worse=st.integers(1, 60), gap=st.floats(0.1, 5.0))
def test_in_a_bandit_beta_is_the_log_odds_over_the_gap(model: Model, better: int, worse: int, gap: float) -> None:
    found = infer_rationality(BANDIT, np.array([[0.0, gap]]), pulls(better, worse), 0.0, model=model)
    assert found.beta == pytest.approx(max(0.0, log(better / worse) / gap), rel=1e-4, abs=1e-4)
    assert found.low <= found.beta <= found.high


def test_an_interval_covers_as_often_as_it_says() -> None:
    beta, n = 1.0, 40
    share = expit(beta)
    covered = 0.0
    for better in range(n + 1):
        if 0 < better < n:
            found = infer_rationality(BANDIT, np.array([[0.0, 1.0]]), pulls(better, n - better), 0.0)
            covered += comb(n, better) * share**better * (1 - share) ** (n - better) * (found.low <= beta <= found.high)
    assert covered == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("model", ["optimal", "soft"])
def test_planted_rationality_is_recovered_in_random_problems(model: Model) -> None:
    covered = 0
    for seed in range(6):
        mdp = random_mdp(seed, states=6)
        rewards_SA = np.random.default_rng(seed).normal(size=(6, 3))
        demonstrations = shown(mdp, boltzmann_policy(mdp, rewards_SA, 0.9, 2.0, model), 200, seed)
        found = infer_rationality(mdp, rewards_SA, demonstrations, 0.9, model=model)
        assert found.beta == pytest.approx(2.0, rel=0.25)
        covered += found.low <= 2.0 <= found.high
    assert covered >= 4


def test_random_and_perfect_demonstrators_are_said_to_be_so() -> None:
    found = infer_rationality(BANDIT, np.array([[0.0, 1.0]]), pulls(10, 10), 0.0)
    assert (found.beta < 1e-3, found.low) == (True, 0.0)
    perfect = infer_rationality(BANDIT, np.array([[0.0, 1.0]]), pulls(30, 0), 0.0)
    assert perfect.beta > 10 and perfect.low > 1 and perfect.high == inf


def test_the_joint_gradient_is_that_of_differences() -> None:
    mdp, draw = random_mdp(3), np.random.default_rng(3)
    features = Features(draw.normal(size=(5, 2)), 5, 3)
    counts = [draw.integers(0, 9, size=(5, 3)) * (np.arange(5) < 4)[:, None] * 1.0 for _ in range(2)]
    point = np.concatenate([draw.normal(size=2), draw.normal(size=2) * 0.3])
    _, gradient = joint_objective(mdp, features, counts, 0.8, point, 0.1)
    expected = approx_fprime(point, lambda x: joint_objective(mdp, features, counts, 0.8, x, 0.1)[0], 1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


def test_a_shared_reward_and_each_demonstrators_beta_are_found_together() -> None:
    mdp, draw = random_mdp(7, states=8), np.random.default_rng(7)
    features = Features(draw.normal(size=(8, 3)), 8, 3)
    weights_F = np.array([2.0, -1.0, 2.0]) / 3
    betas = [0.5, 2.0, 6.0]
    demonstrators = [
        shown(mdp, boltzmann_policy(mdp, features.rewards(weights_F), 0.9, beta, "soft"), 150, seed)
        for seed, beta in enumerate(betas)
    ]
    found = joint_rationality(mdp, features, demonstrators, 0.9)
    assert found.reward.weights_F is not None
    assert float(found.reward.weights_F @ weights_F) > 0.99
    for planted, one in zip(betas, found.rationalities, strict=True):
        assert one.beta == pytest.approx(planted, rel=0.35)


def test_what_says_nothing_of_rationality_is_refused() -> None:
    with pytest.raises(ConfigError, match="makes no action better than another"):
        infer_rationality(BANDIT, np.ones((1, 2)), pulls(3, 1), 0.0)
    ended = TabularMDP(np.ones((1, 2, 1)), np.ones(1), np.ones(1, dtype=bool))
    with pytest.raises(DataError, match="no step outside of terminal states"):
        infer_rationality(ended, np.array([[0.0, 1.0]]), pulls(3, 1), 0.0)
