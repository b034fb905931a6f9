"""How well scores tell two classes apart, and thresholds for a rate of false positives."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

from raysafe.errors import DataError


def auroc(scores_N: np.ndarray, labels_N: np.ndarray) -> float:
    """P(score of a positive > score of a negative) + P(equal) / 2 (Mann and Whitney 1947); both classes are there.

    labels_N: boolean.
    """
    positive = int(labels_N.sum())
    negative = len(labels_N) - positive
    return float((rankdata(scores_N)[labels_N].sum() - positive * (positive + 1) / 2) / (positive * negative))


def empirical_threshold(negatives_N: np.ndarray, rate: float) -> float:
    """The lowest threshold that at most floor(rate N) of these negatives' scores reach, one score or more."""
    ordered_N = np.sort(np.asarray(negatives_N, dtype=np.float64))
    allowed = int(np.floor(rate * ordered_N.size))
    if allowed >= ordered_N.size:
        return float(ordered_N[0])
    return float(np.nextafter(ordered_N[ordered_N.size - allowed - 1], np.inf))


def conformal_threshold(negatives_M: np.ndarray, rate: float) -> float:
    """The lowest threshold that a fresh negative's score, of the same distribution, reaches with probability <= rate.

    By exchangeability (split conformal prediction, Vovk et al. 2005): just above the ceil((1 - rate)(M + 1))-th lowest.
    Raises DataError where M is too small for the rate.
    """
    ordered_M = np.sort(negatives_M)
    place = math.ceil((1 - rate) * (len(ordered_M) + 1))
    if place > len(ordered_M):
        raise DataError(
            f"a false-positive rate of {rate:g} needs {math.ceil(1 / rate) - 1} negative texts to set a threshold by, "
            f"got {len(ordered_M)}: give more, or raise false_positives"
        )
    return float(np.nextafter(ordered_M[place - 1], np.inf))
