"""How far two samples lie apart: Kolmogorov-Smirnov, population stability index, and kernels.

Tests of two samples (two_sample.py) permute them, and monitors' charts update them value by value.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ks_scale(one: int, other: int) -> float:
    """What makes distances of samples of any sizes alike: sqrt(n m / (n + m))."""
    return math.sqrt(one * other / (one + other))


def ks_sides(below_RN: Floats, upto_RN: Floats) -> tuple[Floats, Floats]:
    """sup (F_reference - F_new) and sup (F_new - F_reference) of R samples of N new values, (R,) each.

    below_RN, upto_RN: of each new value, the shares of the reference that are below it, and at or below. The first is
    large where new values are larger, the second where they are smaller.
    """
    size = below_RN.shape[1]
    steps_N = np.arange(1, size + 1) / size
    low_R = (steps_N - np.sort(upto_RN, axis=1)).max(axis=1)
    high_R = (np.sort(below_RN, axis=1) - (steps_N - 1 / size)).max(axis=1)
    return high_R, low_R


def bin_edges(values_N: Floats, bins: int) -> Floats:
    """The upper edges of all bins but the last, (bins - 1,): quantiles; where values are few, edges between them.

    Edges that fall together leave bins that nothing can be in (`open_bins`).
    """
    distinct = np.unique(values_N)
    if len(distinct) <= bins:
        edges = (distinct[1:] + distinct[:-1]) / 2
        return np.concatenate([edges, np.full(bins - 1 - len(edges), edges[-1] if len(edges) else distinct[-1])])
    return np.quantile(values_N, np.arange(1, bins) / bins)


def open_bins(edges_RE: Floats) -> NDArray[np.bool_]:
    """Which bins of (E + 1) something can be in, (R, E + 1)."""
    first = np.diff(edges_RE, axis=1, prepend=-np.inf) > 0
    return np.concatenate([first, np.ones((len(edges_RE), 1), bool)], axis=1)


def psi(counts_RB: Floats, reference_RB: Floats, open_RB: NDArray[np.bool_]) -> Floats:
    """The population stability index of counts in bins against a reference's, sum (p - q) ln(p / q), (R,).

    It is the symmetrised Kullback-Leibler divergence (Jeffreys 1946). Half a value is added to each open bin, so that
    an empty one costs no more than it says.
    """
    bins_R1 = open_RB.sum(axis=-1, keepdims=True)

    def shares(values_RB: Floats) -> Floats:
        return (values_RB + 0.5) / (values_RB.sum(axis=-1, keepdims=True) + 0.5 * bins_R1)

    p_RB, q_RB = shares(counts_RB), shares(reference_RB)
    return ((p_RB - q_RB) * np.log(p_RB / q_RB) * open_RB).sum(axis=-1)


def squared_distances(one_ND: Floats, other_MD: Floats) -> Floats:
    """|x - y|^2 of all pairs, (N, M); exactly 0 where they are the same array's same row."""
    squared_NM = (one_ND**2).sum(axis=1)[:, None] + (other_MD**2).sum(axis=1) - 2 * one_ND @ other_MD.T
    if one_ND is other_MD:
        np.fill_diagonal(squared_NM, 0.0)
    return np.maximum(squared_NM, 0.0)


def median_gamma(values_ND: Floats) -> float:
    """1 / (2 s^2) of a Gaussian kernel exp(-gamma |x - y|^2), where s is the median distance of two values.

    The median heuristic (Gretton et al. 2012, section 8); 1 where most values are the same.
    """
    centred_ND = values_ND - values_ND.mean(axis=0)
    median = np.median(squared_distances(centred_ND, centred_ND)[np.triu_indices(len(values_ND), 1)])
    return float(1 / (2 * median)) if median > 0 else 1.0


def pairs_mean(kernel_NN: Floats) -> float:
    """The mean kernel of two different values."""
    size = len(kernel_NN)
    return float((kernel_NN.sum() - np.trace(kernel_NN)) / (size * (size - 1)))
