"""Reward tables from comparisons: the optimum against finite differences, and a planted reward's plan recovered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory
from raysafe.rl.planning import evaluate, optimal
from raysafe.rl.raters import SyntheticRater
from raysafe.rl.tabular_preferences import (
    RewardPosterior,
    TabularPreferenceConfig,
    fit_preferences,
    informative,
    learn_table,
    with_rewards,
)
from tests.bench.preference_tasks import grid


@given(st.integers(0, 10_000), st.floats(0.01, 10))
@settings(max_examples=30)
def test_the_mode_is_the_one_that_scipy_finds(seed: int, precision: float) -> None:
    draw = np.random.default_rng(seed)
    differences_ND, preferences_N = draw.normal(size=(25, 4)) * 3, draw.integers(0, 3, 25) / 2

    def loss(rewards_D: np.ndarray) -> float:
        gap_N = differences_ND @ rewards_D
        entropy_N = preferences_N * np.logaddexp(0, -gap_N) + (1 - preferences_N) * np.logaddexp(0, gap_N)
        return float(entropy_N.sum() + precision / 2 * rewards_D @ rewards_D)

    found = fit_preferences(differences_ND, preferences_N, precision)
    best = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    assert found.mode_D == pytest.approx(best.x, abs=1e-4)
    assert optimize.approx_fprime(found.mode_D, loss, 1e-6) == pytest.approx(np.zeros(4), abs=1e-3)


def test_the_most_informative_question_is_the_one_nobody_knows() -> None:
    """Variances 4 and 1: the first direction tells more; asked once its variance is 4 / (1 + 4/4) = 2, still more."""
    posterior = RewardPosterior(np.zeros(2), np.diag([4.0, 1.0]))
    differences_ND = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert informative(posterior, differences_ND, 3) == [1, 2, 0]
    assert informative(posterior, np.array([[0.0, 1.9], [1.0, 0.0], [1.0, 0.0]]), 3) == [1, 0, 2]


def planned(comparisons: int, beta: float) -> float:
    """Return of the best plan for the learned table, 0 being random and 1 the best there is."""
    mdp, true_SA = grid()
    rater = SyntheticRater(rationality=beta)

    def ask(pairs: list[tuple[Trajectory, Trajectory]], draw: np.random.Generator) -> list[Comparison]:
        assert all(side.rewards_T is None for pair in pairs for side in pair)
        return rater.compare([(with_rewards(a, true_SA), with_rewards(b, true_SA)) for a, b in pairs], draw)

    config = TabularPreferenceConfig(comparisons=comparisons)
    table_SA, asked = learn_table(mdp, ask, config, gamma=0.95)  # type: ignore[arg-type]
    assert len(asked) == comparisons

    def worth(policy_SA: np.ndarray) -> float:
        return float(mdp.initial_S @ evaluate(mdp, policy_SA, true_SA, 0.95))

    random, best = worth(np.full(true_SA.shape, 0.2)), worth(optimal(mdp, true_SA, 0.95).policy)
    return (worth(optimal(mdp, table_SA, 0.95).policy) - random) / (best - random)


def test_a_plan_for_the_learned_table_is_nearly_the_best() -> None:
    assert planned(100, beta=3.0) > 0.97


def test_answers_that_mean_nothing_teach_nothing() -> None:
    assert planned(100, beta=1e-6) < 0.6
