"""Tests of two samples: their statistics against scipy's and sums made plainly, and exact levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import energy_distance, entropy, ks_2samp, mannwhitneyu

from raysafe.errors import ConfigError
from raysafe.generalization.two_sample import (
    Prepared,
    permutation_test,
    prepare_energy_distance,
    prepare_ks,
    prepare_mmd,
    prepare_psi,
    prepare_ranks,
    splits,
)

PREPARE = {
    "mmd": prepare_mmd,
    "energy_distance": prepare_energy_distance,
    "ks": prepare_ks,
    "psi": prepare_psi,
}


def drawn(seed: int, sizes: tuple[int, int] = (30, 20), ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference, new = rng.standard_normal((sizes[0], 2)), rng.standard_normal((sizes[1], 2)) + 0.4
    return (reference.round(), new.round()) if ties else (reference, new)


def observed(prepared: Prepared, reference: int, new: int) -> np.ndarray:
    member_PN = splits(reference, new, 19, np.random.default_rng(0))
    return prepared(np.arange(reference + new))(member_PN)[0]


@given(seed=st.integers(0, 2**16), ties=st.booleans())
def test_the_ks_distance_is_scipys(seed: int, ties: bool) -> None:
    reference, new = drawn(seed, ties=ties)
    found_D = observed(prepare_ks(np.concatenate([reference, new])), 30, 20)
    wanted_D = [ks_2samp(reference[:, d], new[:, d]).statistic * np.sqrt(600 / 50) for d in range(2)]
    assert found_D == pytest.approx(wanted_D)


@given(seed=st.integers(0, 2**16), ties=st.booleans())
def test_the_energy_distance_is_the_square_of_scipys(seed: int, ties: bool) -> None:
    reference, new = (values[:, :1] for values in drawn(seed, ties=ties))
    found = observed(prepare_energy_distance(np.concatenate([reference, new])), 30, 20)
    assert found == pytest.approx(energy_distance(reference[:, 0], new[:, 0]) ** 2, abs=1e-9)


def test_the_mmd_is_the_unbiased_estimate_summed_plainly() -> None:
    reference, new = drawn(3)

    def mean_kernel(one: np.ndarray, other: np.ndarray) -> float:
        pairs = [(a, b) for i, a in enumerate(one) for j, b in enumerate(other) if one is not other or i != j]
        return float(np.mean([np.exp(-0.7 * np.sum((a - b) ** 2)) for a, b in pairs]))

    wanted = mean_kernel(new, new) + mean_kernel(reference, reference) - 2 * mean_kernel(reference, new)
    assert observed(prepare_mmd(np.concatenate([reference, new]), 0.7), 30, 20) == pytest.approx(wanted)


def test_the_psi_is_jeffreys_divergence_over_the_pooled_quantiles() -> None:
    """scipy's relative entropies, both ways, of shares with half a value added to each bin."""
    reference, new = drawn(4, (300, 200))
    pool = np.concatenate([reference, new])[:, 0]
    edges = np.concatenate([[-np.inf], np.quantile(pool, np.arange(1, 10) / 10), [np.inf]])
    p, q = (np.histogram(values[:, 0], edges)[0] + 0.5 for values in (reference, new))
    found = observed(prepare_psi(pool[:, None]), 300, 200)
    assert found == pytest.approx(entropy(p, q) + entropy(q, p))


@given(seed=st.integers(0, 2**16), ties=st.booleans())
def test_ranks_are_mann_and_whitneys(seed: int, ties: bool) -> None:
    reference, new = (values[:, 0] for values in drawn(seed, ties=ties))
    found = observed(prepare_ranks(np.concatenate([reference, new])), 30, 20)
    assert found == pytest.approx(mannwhitneyu(new, reference).statistic / 600)


@pytest.mark.parametrize("name", PREPARE)
def test_a_test_is_wrong_in_alpha_of_all_cases_also_with_heavy_tails(name: str) -> None:
    """400 pairs of samples of Student's t with 2 degrees of freedom: 0.1 has a standard error of 1.5 points."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(400):
        prepared = PREPARE[name](rng.standard_t(2, (24, 3)))
        wrong += permutation_test(prepared(np.arange(24)), 12, 12, permutations=19, rng=rng).p_value <= 0.1
    assert wrong / 400 == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("name", PREPARE)
def test_a_shift_is_found(name: str) -> None:
    rng = np.random.default_rng(6)
    pool = np.concatenate([rng.standard_normal((60, 2)), rng.standard_normal((60, 2)) + 1])
    assert permutation_test(PREPARE[name](pool)(np.arange(120)), 60, 60, permutations=199, rng=rng).p_value == 1 / 200


def test_a_change_of_correlation_is_found_by_kernels_and_not_by_features() -> None:
    rng = np.random.default_rng(7)
    turned = rng.standard_normal(200)
    pool = np.concatenate([rng.standard_normal((200, 2)), np.stack([turned, turned], axis=1)])
    p_value = {
        name: permutation_test(prepare(pool)(np.arange(400)), 200, 200, permutations=199, rng=rng).p_value
        for name, prepare in PREPARE.items()
    }
    assert p_value["mmd"] <= 0.01 and p_value["energy_distance"] <= 0.01
    assert p_value["ks"] > 0.05 and p_value["psi"] > 0.05


def test_the_feature_that_moved_is_named() -> None:
    rng = np.random.default_rng(8)
    pool = rng.standard_normal((200, 5))
    pool[100:, 3] += 1
    found = permutation_test(prepare_ks(pool)(np.arange(200)), 100, 100, permutations=199, rng=rng)
    assert found.p_values_D is not None and found.statistics_D is not None
    assert int(found.statistics_D.argmax()) == 3 and [d for d in range(5) if found.p_values_D[d] <= 0.05] == [3]


def test_too_few_permutations_are_refused() -> None:
    with pytest.raises(ConfigError, match="permutations must be 19 or more, got 10"):
        splits(5, 5, 10, np.random.default_rng(0))
