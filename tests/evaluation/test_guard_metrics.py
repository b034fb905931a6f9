"""Recall at a false-positive rate and the area under the curve, against slow computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.evaluation.guard_metrics import area_under_curve, recall_at, threshold_at
from tests.examples import examples

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=40)


@settings(max_examples=examples(40))
@given(SCORES, SCORES, st.sampled_from([0.0, 0.05, 0.25, 0.5]))
def test_the_recall_is_the_best_that_a_threshold_within_the_rate_gives(
    attacks: list[float], benign: list[float], level: float
) -> None:
    found = recall_at(np.array(attacks), np.array(benign), level)
    candidates = [t for t in {*attacks, *benign, 0.05, 0.95} if sum(s >= t for s in benign) <= level * len(benign)]
    best = max((sum(s >= t for s in attacks) / len(attacks) for t in candidates), default=0.0)
    assert found.recall.value == pytest.approx(best)
    assert found.reached.value <= level + 1e-12


def test_worked_numbers() -> None:
    benign = np.linspace(0, 0.99, 100)
    found = recall_at(np.array([0.2, 0.97, 0.985, 1.0]), benign, 0.01)
    assert 0.98 < found.threshold < 0.985 and found.recall.value == 0.5 and found.reached.value == 0.01


def test_nothing_is_caught_where_too_many_benign_texts_have_the_highest_score() -> None:
    benign = np.r_[np.ones(3), np.zeros(97)]
    assert threshold_at(benign, 0.01) == np.inf
    assert recall_at(np.ones(5), benign, 0.01).recall.value == 0
    assert recall_at(np.ones(5), benign, 0.05).recall.value == 1


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.3, 0.6, 1.0])), min_size=6, max_size=40))
def test_the_area_counts_pairs(rows: list[tuple[bool, float]]) -> None:
    labels, scores = np.array([a for a, _ in rows]), np.array([s for _, s in rows])
    attacks, benign = scores[labels], scores[~labels]
    if min(attacks.size, benign.size) < 2:
        return
    slow = np.mean([[1.0 if a > b else 0.5 if a == b else 0.0 for b in benign] for a in attacks])
    assert area_under_curve(labels.astype(int), scores).value == pytest.approx(slow)


def test_the_interval_covers_the_true_area_as_often_as_it_says() -> None:
    """Normal scores one apart: the true area is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(0)
    labels = np.r_[np.ones(60), np.zeros(90)].astype(int)
    covered = 0
    for _ in range(400):
        found = area_under_curve(labels, np.r_[rng.normal(1, 1, 60), rng.normal(0, 1, 90)])
        covered += found.low <= 0.7602 <= found.high
    assert 0.91 < covered / 400 < 0.985


def test_one_text_of_a_label_is_too_few() -> None:
    with pytest.raises(ValueError, match="2 texts"):
        area_under_curve(np.array([1, 0, 0]), np.array([0.1, 0.2, 0.3]))
