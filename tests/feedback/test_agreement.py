"""Krippendorff's alpha against his published worked example, its definition, and its invariants."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raysafe.feedback.agreement import agreement, krippendorff_alpha

N = np.nan
# Krippendorff 2011, part E: 12 units, 4 observers, values 1 to 5, some missing
PUBLISHED_RU = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)
TABLES = arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(2, 4)), elements=st.sampled_from([1, 2, 3, 5, N]))


@pytest.mark.parametrize(
    ("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_the_published_example_comes_out(metric, alpha: float) -> None:
    assert krippendorff_alpha(PUBLISHED_RU.T, metric) == pytest.approx(alpha, abs=5e-4)


def test_two_observers_and_two_values_come_out_as_published() -> None:
    # Krippendorff 2011, part A: 10 units, nominal, alpha = 0.095
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha(np.array([first, second], dtype=float).T) == pytest.approx(0.095, abs=5e-4)


@given(TABLES)
def test_it_is_one_less_observed_over_expected_disagreement_pair_by_pair(values_UR: np.ndarray) -> None:
    units = [row[~np.isnan(row)] for row in values_UR]
    units = [row for row in units if len(row) > 1]
    pooled = np.concatenate(units) if units else np.zeros(0)
    observed = sum(sum((x - y) ** 2 for x, y in permutations(row, 2)) / (len(row) - 1) for row in units)
    expected = sum((x - y) ** 2 for x, y in permutations(pooled, 2)) / max(len(pooled) - 1, 1)
    found = krippendorff_alpha(values_UR, "interval")
    if expected == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(1 - observed / expected)


@given(TABLES, st.permutations([1.0, 2.0, 3.0, 5.0]))
def test_nominal_alpha_is_the_same_under_other_names(values_UR: np.ndarray, names: list[float]) -> None:
    renamed_UR = np.full_like(values_UR, N)
    for old, new in zip([1.0, 2.0, 3.0, 5.0], names, strict=True):
        renamed_UR[values_UR == old] = new
    before, after = krippendorff_alpha(values_UR), krippendorff_alpha(renamed_UR)
    assert before == pytest.approx(after, nan_ok=True)


@given(TABLES)
def test_ordinal_alpha_depends_on_the_order_alone(values_UR: np.ndarray) -> None:
    before, after = krippendorff_alpha(values_UR, "ordinal"), krippendorff_alpha(np.exp(values_UR), "ordinal")
    assert before == pytest.approx(after, nan_ok=True)


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval", "ratio"])
def test_perfect_agreement_is_one_with_an_interval_of_no_width(metric) -> None:
    found = agreement(np.repeat([[1.0], [2.0], [5.0], [2.0]], 3, axis=1), metric)
    assert (found.alpha, found.low, found.high) == (1, 1, 1)


def test_raters_who_answer_at_random_agree_by_chance_alone() -> None:
    found = agreement(np.random.default_rng(0).integers(0, 3, (400, 3)).astype(float))
    assert found.low < 0 < found.high and found.high - found.low < 0.15


def test_the_interval_holds_the_true_alpha_about_as_often_as_it_says() -> None:
    # two raters who both say the truth with chance 0.8, else the other of two even values: alpha = 0.6 ** 2
    rng = np.random.default_rng(1)
    inside = 0
    for trial in range(100):
        truth_U = rng.integers(0, 2, 80)
        wrong_UR = rng.random((80, 2)) > 0.8
        found = agreement((truth_U[:, None] ^ wrong_UR).astype(float), samples=200, seed=trial)
        inside += found.low <= 0.36 <= found.high
    assert 88 <= inside <= 100


SIGNED = arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(2, 4)), elements=st.sampled_from([-1, 0, 1, N]))


@given(SIGNED, st.integers(0, 255), st.sampled_from(["nominal", "ordinal", "interval"]))
def test_mirrored_alpha_is_the_same_whatever_side_each_unit_calls_a(values_UR: np.ndarray, turned: int, metric) -> None:
    signs_U = np.array([-1.0 if turned >> unit & 1 else 1.0 for unit in range(len(values_UR))])
    before, after = (krippendorff_alpha(v, metric, mirrored=True) for v in (values_UR, values_UR * signs_U[:, None]))
    assert before == pytest.approx(after, nan_ok=True)


@given(SIGNED)
def test_mirrored_alpha_is_that_of_the_units_with_their_mirror_images(values_UR: np.ndarray) -> None:
    mirrored = krippendorff_alpha(values_UR, mirrored=True)
    both = krippendorff_alpha(np.vstack([values_UR, -values_UR]))
    pairable_UR = values_UR[(~np.isnan(values_UR)).sum(axis=1) >= 2]
    n = np.count_nonzero(~np.isnan(pairable_UR))
    # twice the values, of which alpha takes one away
    assert (1 - mirrored) / (n - 1) == pytest.approx(2 * (1 - both) / (2 * n - 1), nan_ok=True)


def test_units_with_one_value_say_nothing() -> None:
    lonely_UR = np.array([[N, 4.0], [3.0, N], [N, N]])
    assert krippendorff_alpha(np.vstack([PUBLISHED_RU.T[:, :2], lonely_UR])) == krippendorff_alpha(
        PUBLISHED_RU.T[:, :2]
    )
    assert agreement(np.vstack([PUBLISHED_RU.T[:, :2], lonely_UR])).units == 9


def test_without_variation_alpha_is_not_defined() -> None:
    found = agreement(np.ones((4, 2)))
    assert np.isnan([found.alpha, found.low, found.high]).all() and found.units == 4


def test_values_that_no_metric_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="ratio metric needs values of 0 or more, got -1"):
        krippendorff_alpha(np.array([[-1.0, 2.0]]), "ratio")
    with pytest.raises(ValueError, match="finite"):
        krippendorff_alpha(np.array([[np.inf, 2.0]]))
