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


def conformal_place(calibration: int, rate: float) -> int:
    """k, so that a fresh score exceeds the k-th lowest of so many with probability <= rate: ceil((1 - rate)(M + 1)).

    By exchangeability (split conformal prediction, Vovk et al. 2005). Raises DataError where M is too small for it.
    """
    # (1 - rate)(M + 1) may come out a billionth above the whole number that it is
    place = math.ceil((1 - rate) * (calibration + 1) - 1e-9)
    if not 0 < rate < 1 or place > calibration:
        raise DataError(
            f"a rate of errors of {rate:g} needs {math.ceil(1 / rate - 1e-9) - 1 if rate > 0 else 'endlessly many'} "
            f"held-out examples to set a limit by, got {calibration}: give more, or allow more errors"
        )
    return place


def conformal_quantile(scores_M: np.ndarray, rate: float) -> float:
    """The least limit that a fresh score, of the same distribution, exceeds with probability <= rate."""
    place = conformal_place(len(scores_M), rate)
    return float(np.partition(np.asarray(scores_M, np.float64), place - 1)[place - 1])


def conformal_threshold(negatives_M: np.ndarray, rate: float) -> float:
    """The lowest threshold that a fresh negative's score reaches with probability <= rate."""
    return float(np.nextafter(conformal_quantile(negatives_M, rate), np.inf))
