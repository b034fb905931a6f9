"""The area under the ROC curve and thresholds against counts of pairs and of scores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies

from raysafe.errors import DataError
from raysafe.models.roc import auroc, conformal_threshold, empirical_threshold


@given(strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.booleans()), min_size=2, max_size=20))
def test_the_area_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    scores_N, labels_N = np.array([score for score, _ in rows]), np.array([label for _, label in rows])
    if labels_N.all() or not labels_N.any():
        return
    pairs = list(itertools.product(scores_N[labels_N], scores_N[~labels_N]))
    wins = sum(float(p > n) + float(p == n) / 2 for p, n in pairs)
    assert auroc(scores_N, labels_N) == pytest.approx(wins / len(pairs))


@given(strategies.lists(strategies.integers(0, 8), min_size=1, max_size=20), strategies.sampled_from([0.0, 0.1, 0.3]))
def test_no_lower_threshold_keeps_a_sample_within_the_rate(scores: list[int], rate: float) -> None:
    threshold = empirical_threshold(np.array(scores), rate)
    assert sum(score >= threshold for score in scores) <= rate * len(scores)
    assert sum(score >= np.nextafter(threshold, -np.inf) for score in scores) > rate * len(scores)


@pytest.mark.parametrize(("n", "rate"), [(4, 0.2), (9, 0.25), (19, 0.05)])
def test_a_fresh_score_reaches_the_threshold_at_most_at_the_rate(n: int, rate: float) -> None:
    # all n + 1 scores are exchangeable, so the fresh one is each of them with the same probability
    scores = np.arange(n + 1.0)
    reached = [scores[i] >= conformal_threshold(np.delete(scores, i), rate) for i in range(n + 1)]
    assert rate - 1 / (n + 1) < np.mean(reached) <= rate


def test_too_few_scores_for_a_rate_are_an_error() -> None:
    with pytest.raises(DataError, match=r"a rate of errors of 0.05 needs 19 held-out examples .* got 18"):
        conformal_threshold(np.arange(18.0), 0.05)
