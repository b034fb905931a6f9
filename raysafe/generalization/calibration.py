"""Do probabilities mean what they say? Errors of calibration, proper scores, and temperature scaling.

A case's confidence is the probability of the label that the model chose, its outcome whether that was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from raysafe.errors import DataError
from raysafe.generalization.shift_statistics import Floats

Binning = Literal["mass", "width"]
"""Bins of equally many cases, or of equal ranges of confidence."""
BINS = 15
_STEPS, _CLOSE = 100, 1e-10


@dataclass(frozen=True)
class Reliability:
    """Bins that hold cases, by rising confidence: what a reliability diagram shows."""

    confidence_B: Floats
    accuracy_B: Floats
    count_B: NDArray[np.int64]

    @property
    def shares_B(self) -> Floats:
        return self.count_B / self.count_B.sum()


def reliability(
    confidence_N: NDArray[np.floating], outcome_N: NDArray[np.bool_], bins: int = BINS, by: Binning = "mass"
) -> Reliability:
    """Mean confidence and share of right outcomes in each bin."""
    order_N = np.argsort(confidence_N, kind="stable")
    if by == "mass":
        place_N = np.empty(len(order_N), np.int64)
        place_N[order_N] = np.arange(len(order_N)) * min(bins, len(order_N)) // len(order_N)
    else:
        # a bin holds its upper edge, the first one 0 as well
        place_N = np.maximum(np.ceil(np.asarray(confidence_N, float) * bins).astype(np.int64) - 1, 0)
    counts = np.bincount(place_N, minlength=bins)
    held = counts > 0
    confidence = np.bincount(place_N, confidence_N, minlength=bins)[held] / counts[held]
    accuracy = np.bincount(place_N, outcome_N, minlength=bins)[held] / counts[held]
    return Reliability(confidence, accuracy, counts[held])


def expected_calibration_error(
    confidence_N: NDArray[np.floating], outcome_N: NDArray[np.bool_], bins: int = BINS, by: Binning = "mass"
) -> float:
    """Mean over bins of |mean confidence - accuracy|, weighted by their cases (Naeini et al. 2015; Guo et al. 2017).

    A perfectly calibrated model's is above 0, the more so the fewer cases a bin has (`chance_error`).
    """
    found = reliability(confidence_N, outcome_N, bins, by)
    return float(found.shares_B @ np.abs(found.confidence_B - found.accuracy_B))


def squared_calibration_error(
    confidence_N: NDArray[np.floating], outcome_N: NDArray[np.bool_], bins: int = BINS, *, debiased: bool = True
) -> float:
    """Mean over bins of equal mass of (mean confidence - accuracy)^2, less what chance adds to it.

    The debiased estimator of Kumar et al. 2019 (section 5): of a perfectly calibrated model its expectation is 0, so
    that it may be negative. Raises DataError where a bin would hold a single case.
    """
    if len(outcome_N) < 2 * bins:
        raise DataError(f"{bins} bins need {2 * bins} cases or more, got {len(outcome_N)}: give more")
    found = reliability(confidence_N, outcome_N, bins)
    squared_B = (found.confidence_B - found.accuracy_B) ** 2
    if debiased:
        squared_B = squared_B - found.accuracy_B * (1 - found.accuracy_B) / (found.count_B - 1)
    return float(found.shares_B @ squared_B)


def chance_error(
    confidence_N: NDArray[np.floating], rng: np.random.Generator, bins: int = BINS, draws: int = 200
) -> float:
    """The expected calibration error that 95% of perfectly calibrated models with these confidences stay below.

    By outcomes drawn with these probabilities (consistency resampling, Broecker and Smith 2007).
    """
    errors = [
        expected_calibration_error(confidence_N, rng.random(len(confidence_N)) < confidence_N, bins)
        for _ in range(draws)
    ]
    return float(np.quantile(errors, 0.95))


def brier_scores(probabilities_NK: Floats, y_N: NDArray[np.int64]) -> Floats:
    """Each case's squared distance from the label's one-hot vector, from 0 to 2 (Brier 1950)."""
    return ((probabilities_NK - np.eye(probabilities_NK.shape[1])[y_N]) ** 2).sum(axis=1)


def log_losses(logits_NK: Floats, y_N: NDArray[np.int64], temperature: float = 1.0) -> Floats:
    """Each case's negative log-likelihood, in nats."""
    scaled_NK = logits_NK / temperature
    return np.asarray(logsumexp(scaled_NK, axis=1)) - scaled_NK[np.arange(len(y_N)), y_N]


def fit_temperature(logits_NK: Floats, y_N: NDArray[np.int64]) -> float:
    """The temperature that minimises the mean negative log-likelihood of softmax(logits / T) (Guo et al. 2017).

    In 1 / T that is convex; Newton's steps are kept within a bracket. Raises DataError where no temperature is best:
    where the model errs nowhere, or where its logits lead away from the labels.
    """
    own_N = logits_NK[np.arange(len(y_N)), y_N]
    if (own_N >= logits_NK.max(axis=1)).all():
        raise DataError(
            f"the model is right in all {len(y_N)} cases, so that no temperature is best: give more or harder ones"
        )
    if (logits_NK.mean(axis=1) - own_N).mean() >= 0:
        raise DataError("the model's logits say no more of the labels than chance: no temperature is best")

    def slope(inverse: float) -> tuple[float, float]:
        """The first and second derivative of the loss by 1 / T."""
        p_NK = softmax(logits_NK * inverse, axis=1)
        mean_N = (p_NK * logits_NK).sum(axis=1)
        return float((mean_N - own_N).mean()), float(((p_NK * logits_NK**2).sum(axis=1) - mean_N**2).mean())

    low, high = 0.0, 1.0
    while slope(high)[0] < 0:
        low, high = high, 2 * high
    inverse = (low + high) / 2
    for _ in range(_STEPS):
        first, second = slope(inverse)
        low, high = (inverse, high) if first < 0 else (low, inverse)
        step = inverse - first / second if second > 0 else low
        new = step if low < step < high else (low + high) / 2
        if abs(new - inverse) <= _CLOSE * inverse:
            break
        inverse = new
    return 1 / inverse
