"""Statistics against scipy, published values and their own coverage."""

import numpy as np
import pytest
from scipy import stats

from raysafe.records import statistics


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (150, 400)])
def test_wilson_interval_equals_scipys(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    estimate = statistics.wilson_interval(successes, n)
    assert estimate.interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_matches_newcombes_published_example():
    # Newcombe 1998, table I: 81 of 263 by the score method without continuity correction
    estimate = statistics.wilson_interval(81, 263)
    assert estimate.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_interval_takes_halves_for_ties():
    assert statistics.wilson_interval(2.5, 5).value == 0.5


def test_wilson_interval_refuses_more_successes_than_cases():
    with pytest.raises(ValueError, match="got 6 of 5"):
        statistics.wilson_interval(6, 5)


def test_exact_binomial_equals_the_sum_of_its_tail():
    tail = sum(stats.binom.pmf(k, 20, 0.5) for k in range(15, 21))
    assert statistics.exact_binomial(15, 20) == pytest.approx(tail, rel=1e-12)


def test_exact_binomial_never_gains_from_a_half():
    assert statistics.exact_binomial(15.5, 20) == statistics.exact_binomial(15, 20)


def test_mean_interval_equals_scipys_t_interval():
    values = [0.71, 0.74, 0.69, 0.73, 0.75]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert statistics.mean_interval(values).interval == pytest.approx(expected, rel=1e-12)


def test_mean_interval_of_one_seed_is_refused():
    with pytest.raises(ValueError, match="2 values or more"):
        statistics.mean_interval([0.7])


def test_mean_interval_covers_the_truth_in_95_of_100_samples():
    rng = np.random.default_rng(0)
    covered = [(e := statistics.mean_interval(rng.normal(size=5))).low <= 0 <= e.high for _ in range(2000)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_paired_t_equals_scipys():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=12), rng.normal(0.5, size=12)
    expected = stats.ttest_rel(first, second)
    result = statistics.paired_t(first, second)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-10)


def test_paired_t_of_equal_lists_finds_nothing():
    assert statistics.paired_t([0.5, 0.6], [0.5, 0.6]).p_value == 1.0


def test_paired_bootstrap_agrees_with_the_t_test_on_normal_differences():
    rng = np.random.default_rng(2)
    first = rng.normal(0.3, 1, size=200)
    second = np.zeros(200)
    bootstrap, student = statistics.paired_bootstrap(first, second), statistics.paired_t(first, second)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((student.low, student.high), abs=0.02)


def test_paired_bootstrap_finds_nothing_between_shuffled_copies():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 2, 400).astype(float)
    assert statistics.paired_bootstrap(scores, rng.permutation(scores), samples=2000).p_value > 0.05


def test_mcnemar_equals_the_binomial_test_of_the_discordant_pairs():
    first = [True] * 9 + [False] * 2 + [True] * 10
    second = [False] * 9 + [True] * 2 + [True] * 10
    result = statistics.mcnemar(first, second)
    assert result.p_value == pytest.approx(stats.binomtest(9, 11).pvalue)
    assert result.difference == pytest.approx(7 / 21)


def test_mcnemar_of_equal_answers_finds_nothing():
    assert statistics.mcnemar([True, False], [True, False]).p_value == 1.0


def test_paired_tests_refuse_lists_of_unequal_length():
    with pytest.raises(ValueError, match="got 1 and 2"):
        statistics.paired_t([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_the_interval_of_a_difference_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Table II of Newcombe 1998, method 10."""
    found = statistics.difference_interval(first, second)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
