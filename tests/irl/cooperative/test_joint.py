"""The joint fit: its gradient, planted truths, and what it says it can't know."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.cooperative.joint import Evidence, JointConfig, JointIRL, Preference
from tests.irl.bayes.problems import BETA, GAMMA, demonstrations, problem

WEIGHTS_F = np.array([0.6, -0.8])
MDP, FEATURES = problem()


def preferences(weights_F: np.ndarray, decisiveness: float, count: int, seed: int = 1) -> list[Preference]:
    pool = demonstrations(MDP, FEATURES, np.zeros(2), 2 * count, 6, seed)
    rng = np.random.default_rng(seed)
    job = JointIRL(MDP, FEATURES.array, GAMMA)
    pairs = [Preference(*pair) for pair in zip(pool[::2], pool[1::2], strict=True)]
    chances_M = 1 / (1 + np.exp(-decisiveness * Evidence(job, [], pairs).differences_MF @ weights_F))
    return [
        Preference(pair.first, pair.second, float(rng.random() < chance))
        for pair, chance in zip(pairs, chances_M, strict=True)
    ]


def fit(shown: list[Trajectory], said: list[Preference], array=FEATURES.array, **settings):
    return JointIRL(MDP, array, GAMMA, JointConfig(**({"coherence": 10.0, "starts": 2} | settings))).fit(shown, said)


def test_the_gradient_is_that_of_finite_differences() -> None:
    shown, said = demonstrations(MDP, FEATURES, WEIGHTS_F, 3, 5), preferences(WEIGHTS_F, 2.0, 5)
    evidence = Evidence(JointIRL(MDP, FEATURES.array, GAMMA), shown, said)
    free_P = np.random.default_rng(0).normal(size=6)
    slope_P = evidence.loss(free_P)[1]
    steps_PP = 1e-6 * np.eye(6)
    differences_P = [(evidence.loss(free_P + h)[0] - evidence.loss(free_P - h)[0]) / 2e-6 for h in steps_PP]
    assert slope_P == pytest.approx(np.array(differences_P), rel=1e-5, abs=1e-5)


def test_reward_and_both_rationalities_are_recovered() -> None:
    found = fit(demonstrations(MDP, FEATURES, WEIGHTS_F, 40, 10), preferences(WEIGHTS_F, 1.5, 400))
    assert found.reward.weights_F == pytest.approx(WEIGHTS_F, abs=0.1)
    assert found.rationality == pytest.approx(BETA, rel=0.2)
    assert found.decisiveness == pytest.approx(1.5, rel=0.25)
    assert found.incoherence < 0.2 and not found.open_FN.size


def test_one_who_says_other_than_he_does_is_found_incoherent() -> None:
    shown, said = demonstrations(MDP, FEATURES, WEIGHTS_F, 40, 10), preferences(np.array([0.8, 0.6]), 4.0, 200)
    apart, together = fit(shown, said, coherence=0.1), fit(shown, said, coherence=1e4)
    assert apart.incoherence > 1.0
    assert together.incoherence < 0.1
    assert apart.log_posterior > together.log_posterior


def test_preferences_alone_leave_actions_unknown_and_the_other_way_round() -> None:
    said, shown = preferences(WEIGHTS_F, 4.0, 300), demonstrations(MDP, FEATURES, WEIGHTS_F, 40, 10)
    assert fit([], said).rationality is None
    assert fit(shown, []).decisiveness is None
    assert fit([], said).reward.weights_F == pytest.approx(WEIGHTS_F, abs=0.2)


def test_directions_that_data_leave_open_are_named() -> None:
    """A third feature that is the same everywhere changes nothing that is seen."""
    array = np.column_stack([FEATURES.array, np.ones(MDP.states)])
    found = fit(demonstrations(MDP, FEATURES, WEIGHTS_F, 30, 10), [], array=array)
    assert found.open_FN.shape == (3, 1)
    assert abs(found.open_FN[2, 0]) == pytest.approx(1, abs=0.01)


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(DataError, match="neither trajectories nor preferences"):
        fit([], [])
    pair = demonstrations(MDP, FEATURES, WEIGHTS_F, 2, 3)
    with pytest.raises(DataError, match=r"preferred must be in \[0, 1\]"):
        fit([], [Preference(pair[0], pair[1], 2.0)])
