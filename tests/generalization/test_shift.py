"""All tests of shift on one pool: levels, power, and the cautious corrections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from raysafe.generalization.corrections import holm
from raysafe.generalization.shift import Pool, ShiftTests, ks_p_values, null_splits, two_sources
from raysafe.generalization.shift_statistics import ks_scale


def pool(rng: np.random.Generator, shift: float) -> Pool:
    values = rng.standard_normal((160, 3))
    values[80:] += shift
    return Pool(values, {"distance": (values**2).sum(axis=1)})


def test_rates_are_alpha_on_null_splits_and_near_one_on_a_shift() -> None:
    rng = np.random.default_rng(0)
    old, new = np.arange(80), np.arange(80, 160)
    tests = ShiftTests(pool(rng, 1.5), permutations=19)
    told: list[int] = []
    wrong = tests.rates(null_splits(old, 20), repetitions=150, alpha=0.2, rng=rng, done=told.append)
    found = tests.rates(two_sources(old, new, 20), repetitions=20, alpha=0.2, rng=rng)
    assert set(wrong) == {"mmd", "energy_distance", "ks", "psi", "distance"}
    assert all(rate == pytest.approx(0.2, abs=0.11) for rate in wrong.values())
    assert all(rate >= 0.9 for rate in found.values())
    assert told == list(range(1, 151))


def test_null_splits_share_no_example() -> None:
    one, other = null_splits(np.arange(50, 90), 20)(np.random.default_rng(0))
    assert sorted([*one, *other]) == list(range(50, 90))


def test_holms_p_values_are_scipys_asymptotic_ones_corrected() -> None:
    rng = np.random.default_rng(1)
    drawn = pool(rng, 0.4)
    old, new = np.arange(70), np.arange(80, 160)
    found = ShiftTests(drawn, permutations=19, correction="holm").test("ks", old, new, rng)
    wanted: list[Any] = [
        ks_2samp(drawn.values_ND[old, d], drawn.values_ND[new, d], method="asymp")[1] for d in range(3)
    ]
    assert found.p_values_D == pytest.approx(holm(np.array(wanted)))
    assert ks_p_values(np.array([0.0]), 70, 80) == pytest.approx([1.0])
    assert ks_scale(70, 80) ** 2 == pytest.approx(70 * 80 / 150)


def test_the_same_seed_gives_the_same_p_values() -> None:
    drawn = pool(np.random.default_rng(2), 0.3)
    old, new = np.arange(80), np.arange(80, 160)
    one, other = (
        ShiftTests(drawn, permutations=99).test("mmd", old, new, np.random.default_rng(3)).p_value for _ in range(2)
    )
    assert one == other
