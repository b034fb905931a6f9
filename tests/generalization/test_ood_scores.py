"""Scores of strangeness against scikit-learn, closed forms and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.covariance import ledoit_wolf as sklearns_ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from raysafe.errors import DataError
from raysafe.generalization.ood_scores import Mahalanobis, NearestNeighbours, energy_score, ledoit_wolf, msp, unit


@given(seed=st.integers(0, 2**16), cases=st.integers(2, 40), width=st.integers(1, 20))
def test_the_shrunk_covariance_is_scikit_learns(seed: int, cases: int, width: int) -> None:
    values = np.random.default_rng(seed).standard_normal((cases, width)) * np.arange(1, width + 1)
    centred = values - values.mean(axis=0)
    wanted, _ = sklearns_ledoit_wolf(centred, assume_centered=True)
    assert ledoit_wolf(centred) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_the_distance_is_to_the_nearest_class_in_its_own_units() -> None:
    """Two classes at -10 and 10 with deviation 2, of very many examples: 13 is 1.5 deviations off."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 5000)
    x = np.where(y == 0, -10.0, 10.0)[:, None] + 2 * rng.standard_normal((10_000, 1))
    found = Mahalanobis.fit(x, y)
    assert found.score(np.array([[13.0], [-10.0], [0.0]])) == pytest.approx([2.25, 0, 25], rel=0.1, abs=0.01)


@given(seed=st.integers(0, 2**16))
def test_the_distance_is_the_plain_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    found, new = Mahalanobis.fit(x, y), rng.standard_normal((5, 4))
    wanted = [min((row - mean) @ found.precision_DD @ (row - mean) for mean in found.means_KD) for row in new]
    assert found.score(new) == pytest.approx(wanted)


@given(seed=st.integers(0, 2**16), k=st.integers(1, 10))
def test_neighbours_are_scikit_learns(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    bank, new = rng.standard_normal((60, 3)), rng.standard_normal((7, 3))
    wanted = NearestNeighbors(n_neighbors=k).fit(unit(bank)).kneighbors(unit(new))[0][:, -1]
    assert NearestNeighbours.fit(bank, k).score(new) == pytest.approx(wanted, abs=1e-7)


@given(seed=st.integers(0, 2**16))
def test_with_two_classes_confidence_and_energy_are_closed_forms(seed: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((9, 2)) * 5
    gap = np.abs(logits[:, 0] - logits[:, 1])
    assert msp(logits) == pytest.approx(1 / (1 + np.exp(gap)))
    assert energy_score(logits) == pytest.approx(-logits.max(axis=1) - np.log1p(np.exp(-gap)))
    assert msp(logits) == pytest.approx(1 - softmax(logits, axis=1).max(axis=1))


def test_energy_at_a_low_temperature_is_the_largest_logit() -> None:
    logits = np.array([[3.0, 1.0, -2.0]])
    assert energy_score(logits, 1e-3) == pytest.approx([-3.0])


def test_constant_features_and_too_few_examples_are_refused() -> None:
    with pytest.raises(DataError, match="needs more examples than classes, got 2"):
        Mahalanobis.fit(np.ones((2, 3)), np.array([0, 1]))
    with pytest.raises(DataError, match="the same in all examples of a class"):
        Mahalanobis.fit(np.ones((5, 3)))
    with pytest.raises(DataError, match="the 6-th nearest neighbour needs so many examples or more, got 5"):
        NearestNeighbours.fit(np.ones((5, 3)), 6)
