"""Permutation tests of whether two samples are of one distribution.

Under that hypothesis the pooled values are exchangeable, so the rank of the observed statistic among those of random
splits is a p-value that is exact for any distribution and any statistic (Phipson and Smyth 2010): a test at alpha is
wrong in alpha of all cases, where alpha is a multiple of 1 / (permutations + 1) and the statistic has no ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from raysafe.errors import ConfigError
from raysafe.generalization.corrections import westfall_young
from raysafe.generalization.shift_statistics import (
    Floats,
    bin_edges,
    ks_scale,
    median_gamma,
    open_bins,
    psi,
    squared_distances,
)

Members = NDArray[np.bool_]
"""(P, N): which of N pooled values are the new sample, in each of P splits."""
Statistic = Callable[[Members], Floats]
"""(P,) of the splits, or (P, D) where each feature has its own; large where the samples differ."""
Prepared = Callable[[NDArray[np.intp]], Statistic]
"""The statistic of the pooled values at some places of a larger pool, for which it was prepared once."""

PSI_BINS = 10


@dataclass(frozen=True)
class TwoSampleTest:
    """Do two samples differ? `features_D`: the statistic and adjusted p-value of each feature, where they have any."""

    statistic: float
    p_value: float
    statistics_D: Floats | None = None
    p_values_D: Floats | None = None


def splits(reference: int, new: int, permutations: int, rng: np.random.Generator) -> Members:
    """(permutations + 1, reference + new): as observed, where the new values stand last, then at random."""
    if permutations < 19:
        raise ConfigError(f"permutations must be 19 or more, got {permutations}: with fewer no p-value is 0.05")
    member_N = np.arange(reference + new) >= reference
    return np.concatenate([member_N[None], rng.permuted(np.tile(member_N, (permutations, 1)), axis=1)])


def permutation_test(
    statistic: Statistic, reference: int, new: int, *, permutations: int, rng: np.random.Generator
) -> TwoSampleTest:
    """Test whether the last `new` of the statistic's pooled values are like the `reference` before them.

    A statistic of each feature is tested by the largest one; the features' p-values are Westfall and Young's.
    """
    found = statistic(splits(reference, new, permutations, rng))
    if found.ndim == 1:
        return TwoSampleTest(float(found[0]), float((found >= found[0]).mean()))
    adjusted_D = westfall_young(found)
    return TwoSampleTest(float(found[0].max()), float(adjusted_D.min()), found[0], adjusted_D)


def prepare_mmd(pool_ND: Floats, gamma: float | None = None) -> Prepared:
    """The unbiased squared maximum mean discrepancy (Gretton et al. 2012, equation 3) with a Gaussian kernel.

    gamma: of the kernel; by default of the pool's median distance, which no split changes.
    """
    squared_NN = squared_distances(*_centred(pool_ND))
    kernel_NN = np.exp(-(median_gamma(pool_ND) if gamma is None else gamma) * squared_NN)

    def at(places_N: NDArray[np.intp]) -> Statistic:
        part_NN = kernel_NN[np.ix_(places_N, places_N)]
        np.fill_diagonal(part_NN, 0.0)

        def statistic(member_PN: Members) -> Floats:
            both_P, new_P, old_P, n_P, m_P = _sums(part_NN, member_PN)
            return new_P / (n_P * (n_P - 1)) + old_P / (m_P * (m_P - 1)) - 2 * both_P / (n_P * m_P)

        return statistic

    return at


def prepare_energy_distance(pool_ND: Floats) -> Prepared:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013), of samples; any change of distribution raises it.

    Features are taken as they are: scale those of different units before.
    """
    distance_NN = np.sqrt(squared_distances(*_centred(pool_ND)))

    def at(places_N: NDArray[np.intp]) -> Statistic:
        part_NN = distance_NN[np.ix_(places_N, places_N)]

        def statistic(member_PN: Members) -> Floats:
            both_P, new_P, old_P, n_P, m_P = _sums(part_NN, member_PN)
            return 2 * both_P / (n_P * m_P) - new_P / n_P**2 - old_P / m_P**2

        return statistic

    return at


def prepare_ks(pool_ND: Floats) -> Prepared:
    """The scaled two-sample Kolmogorov-Smirnov distance of each feature."""

    def at(places_N: NDArray[np.intp]) -> Statistic:
        values_ND = pool_ND[places_N]
        order_DN = np.argsort(values_ND, axis=0, kind="stable").T
        sorted_DN = np.take_along_axis(values_ND.T, order_DN, axis=1)
        # distribution functions are compared after the last of equal values
        last_DN = np.append(np.diff(sorted_DN, axis=1) > 0, np.ones((len(order_DN), 1), bool), axis=1)

        def statistic(member_PN: Members) -> Floats:
            size = member_PN.shape[1]
            new = int(member_PN[0].sum())
            # whole numbers, so that equal distances compare as equal; the fewer bytes, the faster
            shared = math.gcd(new, size - new)
            largest = new * (size - new) // shared
            dtype = np.int16 if largest < 1 << 15 else np.int64
            step_NP = np.where(member_PN.T, (size - new) // shared, -new // shared).astype(dtype)
            found_PD = np.zeros((len(member_PN), len(order_DN)))
            for feature, (order_N, last_N) in enumerate(zip(order_DN, last_DN, strict=True)):
                if last_N[:-1].any():
                    gap_NP = np.cumsum(step_NP[order_N], axis=0, dtype=dtype)[last_N]
                    found_PD[:, feature] = np.abs(gap_NP).max(axis=0)
            return found_PD * (ks_scale(size - new, new) / largest)

        return statistic

    return at


def prepare_psi(pool_ND: Floats, bins: int = PSI_BINS) -> Prepared:
    """The population stability index of each feature, over bins by the pooled values' quantiles."""

    def at(places_N: NDArray[np.intp]) -> Statistic:
        values_ND = pool_ND[places_N]
        edges_DE = np.stack([bin_edges(values_N, bins) for values_N in values_ND.T])
        open_DB = open_bins(edges_DE)
        place_ND = (values_ND[:, :, None] > edges_DE).sum(axis=2)
        # float32 counts exactly here, twice as fast
        one_hot_NK = (place_ND[:, :, None] == np.arange(bins)).reshape(len(values_ND), -1).astype(np.float32)
        total_K = one_hot_NK.sum(axis=0, dtype=float)

        def statistic(member_PN: Members) -> Floats:
            counts_PK = (member_PN.astype(np.float32) @ one_hot_NK).astype(float)
            shape = (len(member_PN), *open_DB.shape)
            return psi(counts_PK.reshape(shape), (total_K - counts_PK).reshape(shape), open_DB)

        return statistic

    return at


def prepare_ranks(pool_N: Floats) -> Prepared:
    """P(a new value > a reference value) + P(equal) / 2 (Mann and Whitney 1947): are new values the larger ones?"""

    def at(places_N: NDArray[np.intp]) -> Statistic:
        ranks_N = rankdata(pool_N[places_N])

        def statistic(member_PN: Members) -> Floats:
            new_P = member_PN.sum(axis=1)
            above_P = member_PN.astype(float) @ ranks_N - new_P * (new_P + 1) / 2
            return above_P / (new_P * (member_PN.shape[1] - new_P))

        return statistic

    return at


def _centred(pool_ND: Floats) -> tuple[Floats, Floats]:
    """The pool around its mean, twice the same: distances by inner products then lose no digits."""
    centred_ND = pool_ND - pool_ND.mean(axis=0)
    return centred_ND, centred_ND


def _sums(pairs_NN: Floats, member_PN: Members) -> tuple[Floats, ...]:
    """Of a symmetric matrix, its sum over pairs across the samples, within the new one and within the reference;
    then both sizes."""
    chosen_PN = member_PN.astype(float)
    rows_N = pairs_NN.sum(axis=1)
    new_P = np.einsum("pn,pn->p", chosen_PN @ pairs_NN, chosen_PN)
    touched_P = chosen_PN @ rows_N
    n_P = chosen_PN.sum(axis=1)
    return touched_P - new_P, new_P, rows_N.sum() - 2 * touched_P + new_P, n_P, member_PN.shape[1] - n_P
