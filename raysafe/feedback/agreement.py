"""Krippendorff's alpha: how far raters agree beyond chance, with missing values (Krippendorff 2011, "Computing
Krippendorff's Alpha-Reliability"). 1 is perfect agreement, 0 is chance, below 0 is systematic disagreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Metric = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True)
class Agreement:
    """Alpha with its two-sided bootstrap interval; all three are NaN where alpha is undefined."""

    alpha: float
    low: float
    high: float
    units: int
    """Units that two raters or more have judged: the others say nothing of agreement."""


def krippendorff_alpha(values_UR: np.ndarray, metric: Metric = "nominal", *, mirrored: bool = False) -> float:
    """Alpha = 1 - D_observed / D_expected of units U judged by raters R; NaN marks what is missing.

    mirrored: the values' sign is only a name that each unit gives, as which of two sides is called a, so that chance is
    that of either sign alike; otherwise raters who agree on b wherever b is better would seem to agree by chance.

    NaN where no unit has two values, or all such values are the same: nothing could have disagreed. Raises ValueError
    for infinite values, and for negative ones under the ratio metric.
    """
    categories_C, counts_UC = _counts(values_UR, metric, mirrored)
    return _alpha(categories_C, counts_UC, np.ones(len(counts_UC)), metric, mirrored)


def agreement(
    values_UR: np.ndarray,
    metric: Metric = "nominal",
    *,
    mirrored: bool = False,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Alpha and Efron's percentile bootstrap over the units; resamples without variation are left out."""
    categories_C, counts_UC = _counts(values_UR, metric, mirrored)
    units = len(counts_UC)
    alpha = _alpha(categories_C, counts_UC, np.ones(units), metric, mirrored)
    if np.isnan(alpha):
        return Agreement(alpha, np.nan, np.nan, units)
    rng = np.random.default_rng(seed)
    weights_SU = rng.multinomial(units, np.full(units, 1 / units), size=samples)
    alphas_S = np.array([_alpha(categories_C, counts_UC, weights_U, metric, mirrored) for weights_U in weights_SU])
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(alphas_S, [tail, 1 - tail])
    return Agreement(alpha, float(low), float(high), units)


def _counts(values_UR: np.ndarray, metric: Metric, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """(the distinct values, sorted; how often each pairable unit has each of them)."""
    values_UR = np.asarray(values_UR, dtype=np.float64)
    if values_UR.ndim != 2:
        raise ValueError(f"values must be units by raters, got {values_UR.ndim} dimensions")
    if np.isinf(values_UR).any():
        raise ValueError("values must be finite, or NaN where they are missing")
    given_UR = ~np.isnan(values_UR)
    pairable_U = given_UR.sum(axis=1) >= 2
    values_UR, given_UR = values_UR[pairable_U], given_UR[pairable_U]
    values_N = values_UR[given_UR]
    categories_C = np.unique(np.concatenate([values_N, -values_N]) if mirrored else values_N)
    index = np.searchsorted(categories_C, values_N)
    if metric == "ratio" and (categories_C < 0).any():
        raise ValueError(f"the ratio metric needs values of 0 or more, got {categories_C[0]:g}")
    counts_UC = np.zeros((len(values_UR), len(categories_C)))
    np.add.at(counts_UC, (np.nonzero(given_UR)[0], index), 1)
    return categories_C, counts_UC


def _alpha(
    categories_C: np.ndarray, counts_UC: np.ndarray, weights_U: np.ndarray, metric: Metric, mirrored: bool
) -> float:
    """Alpha of units that count `weights_U` times."""
    if len(categories_C) < 2:
        return float("nan")
    # each pair of values within a unit, over the unit's values less one, is a coincidence
    shares_UC = counts_UC * (weights_U / (counts_UC.sum(axis=1) - 1))[:, None]
    coincidences_CC = shares_UC.T @ counts_UC - np.diag(shares_UC.sum(axis=0))
    if mirrored:
        # values and their negatives stand at mirrored places
        coincidences_CC = (coincidences_CC + coincidences_CC[::-1, ::-1]) / 2
    totals_C = coincidences_CC.sum(axis=0)
    distances_CC = _squared_distances(categories_C, totals_C, metric)
    expected = float(totals_C @ distances_CC @ totals_C)
    if expected <= 0:
        return float("nan")
    return 1 - (float(totals_C.sum()) - 1) * float((coincidences_CC * distances_CC).sum()) / expected


def _squared_distances(categories_C: np.ndarray, totals_C: np.ndarray, metric: Metric) -> np.ndarray:
    """The squared difference function of each metric, (C, C)."""
    first_CC, second_CC = categories_C[:, None], categories_C[None, :]
    if metric == "nominal":
        return (first_CC != second_CC).astype(np.float64)
    if metric == "interval":
        return (first_CC - second_CC) ** 2
    if metric == "ratio":
        sum_CC = first_CC + second_CC
        return np.divide(first_CC - second_CC, sum_CC, out=np.zeros_like(sum_CC), where=sum_CC != 0) ** 2
    if metric == "ordinal":
        # values at and between the two, half of the two themselves
        middle_C = np.cumsum(totals_C) - totals_C / 2
        return (middle_C[:, None] - middle_C[None, :]) ** 2
    raise ValueError(f"metric must be nominal, ordinal, interval or ratio, got {metric!r}")
