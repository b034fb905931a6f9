"""Pair accuracy, its baselines and its controls."""

import numpy as np
import pytest
from scipy import stats

from raysafe.evaluation.preference_accuracy import compare, prefers


def by_metric(scores, shorter):
    return {figure.metric: figure for figure in compare(scores, shorter)[0]}


def test_ties_count_one_half():
    assert prefers(np.array([2.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0])).tolist() == [1.0, 0.5, 0.0]


def test_accuracy_and_p_value_by_hand():
    scores = np.array([1.0] * 15 + [0.0] * 5)
    found = by_metric(scores, np.full(20, 0.5))
    assert found["accuracy"].value == 0.75
    assert found["p_value"].value == pytest.approx(stats.binom.sf(14, 20, 0.5))


def test_random_rewards_are_at_chance():
    rng = np.random.default_rng(0)
    scores = prefers(rng.normal(size=2000), rng.normal(size=2000))
    found = by_metric(scores, rng.integers(0, 2, 2000).astype(float))
    assert found["accuracy"].interval[0] < 0.5 < found["accuracy"].interval[1]
    assert found["p_value"].value > 0.01


def test_a_reward_that_only_sees_length_does_not_beat_the_length_baseline():
    rng = np.random.default_rng(1)
    chosen, rejected = rng.integers(5, 50, 500), rng.integers(5, 40, 500)
    shorter = prefers(-chosen, -rejected)
    found = by_metric(prefers(chosen, rejected), shorter)
    assert found["accuracy"].value > 0.5
    assert found["over_longer"].value == 0.0
    assert found["over_shorter"].value == pytest.approx(found["accuracy"].value - found["shorter_baseline"].value)


def test_baselines_are_each_others_complement():
    found = by_metric(np.ones(10), np.array([1.0, 0.5] * 5))
    assert found["shorter_baseline"].value + found["longer_baseline"].value == pytest.approx(1.0)
