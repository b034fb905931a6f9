"""Conformal sets cover as often as the theory says, exactly, and scores are those of the papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import beta, betabinom, kstest

from raysafe.errors import DataError
from raysafe.generalization.conformal import (
    ConformalSets,
    aps_scores,
    coverage_interval,
    coverage_quantile,
    lac_scores,
    stratified_coverage,
)

METHODS = ("lac", "aps", "raps")


def cases(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is wrong about how sure it may be, and labels."""
    logits_NK = 2 * rng.standard_normal((count, 5))
    cumulated_NK = np.cumsum(softmax(0.6 * logits_NK, axis=1), axis=1)
    return softmax(logits_NK, axis=1), (rng.random((count, 1)) > cumulated_NK[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("method", METHODS)
def test_coverage_over_calibration_sets_is_the_beta_binomial_of_the_theory(method: str) -> None:
    """500 times 39 examples calibrate and 40 are covered or not: mean, and each tail, against the law."""
    rng = np.random.default_rng(0)
    calibration, fresh, alpha, runs = 39, 40, 0.1, 500
    covered = np.empty(runs)
    for run in range(runs):
        probabilities, y = cases(rng, calibration + fresh)
        sets = ConformalSets.fit(method, probabilities[:calibration], y[:calibration], alpha, rng)  # pyright: ignore[reportArgumentType]
        inside = sets.sets(probabilities[calibration:], rng)
        covered[run] = inside[np.arange(fresh), y[calibration:]].sum()
    law = betabinom(fresh, 36, 4)
    assert covered.mean() / fresh == pytest.approx(0.9, abs=4 * law.std() / fresh / np.sqrt(runs))
    for count in (32, 34, 36, 38):
        share = law.cdf(count)
        assert (covered <= count).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / runs))


def test_the_coverage_that_a_threshold_comes_to_is_the_beta_of_the_theory() -> None:
    """Of even scores, a threshold's coverage is the threshold itself."""
    rng = np.random.default_rng(1)
    thresholds = []
    for _ in range(1000):
        scores = rng.random(50)
        probabilities = np.stack([1 - scores, scores], axis=1)
        fitted = ConformalSets.fit("lac", probabilities, np.zeros(50, int), 0.2, rng)
        thresholds.append(fitted.threshold)
    assert kstest(thresholds, beta(41, 10).cdf).pvalue > 0.001
    assert coverage_quantile(50, 0.2, 0.5) == pytest.approx(beta(41, 10).median())


def test_scores_are_those_worked_by_hand() -> None:
    """Labels of probability 0.2, 0.5, 0.3, with half of the own one: 0.8 + 0.1, 0.25, 0.5 + 0.15."""
    probabilities = np.array([[0.2, 0.5, 0.3]])
    assert lac_scores(probabilities)[0] == pytest.approx([0.8, 0.5, 0.7])
    assert aps_scores(probabilities, np.array([0.5]))[0] == pytest.approx([0.9, 0.25, 0.65])
    assert aps_scores(probabilities, np.array([0.5]), penalty=0.1, free=1)[0] == pytest.approx([1.1, 0.25, 0.75])


@given(seed=st.integers(0, 2**16), method=st.sampled_from(METHODS))
def test_sets_are_the_likeliest_labels(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    probabilities, y = cases(rng, 60)
    inside = ConformalSets.fit(method, probabilities, y, 0.2, rng).sets(probabilities, rng)  # pyright: ignore[reportArgumentType]
    for row, members in zip(probabilities, inside, strict=True):
        assert not members.any() or members.all() or row[members].min() >= row[~members].max()


@given(seed=st.integers(0, 2**16))
def test_a_smaller_alpha_never_takes_a_label_away(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, y = cases(rng, 60)
    strict, lax = (
        ConformalSets.fit("lac", probabilities, y, alpha, rng).sets(probabilities, rng) for alpha in (0.05, 0.2)
    )
    assert (strict >= lax).all()


def test_the_interval_of_coverage_is_the_laws() -> None:
    low, high = coverage_interval(99, 200, 0.1)
    law = betabinom(200, 90, 10)
    assert law.cdf(200 * low) >= 0.025 > law.cdf(200 * low - 1) and law.cdf(200 * high) >= 0.975
    assert low < 0.9 < high


def test_coverage_by_size_counts_every_set() -> None:
    inside = np.array([[True, False], [False, True], [True, True], [False, False]])
    assert stratified_coverage(inside, np.array([0, 0, 1, 1])) == {0: (1, 0.0), 1: (2, 0.5), 2: (1, 1.0)}


def test_too_few_examples_for_alpha_are_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(DataError, match=r"a rate of errors of 0.05 needs 19 held-out examples .* got 10"):
        ConformalSets.fit("lac", *cases(rng, 10), 0.05, rng)
