"""Split conformal prediction: sets of labels that hold the true one with a stated probability.

Whatever the model, a fresh example of the calibration data's distribution is covered with probability 1 - alpha or
more (Vovk et al. 2005; Angelopoulos and Bates 2023). Over calibration sets of n examples, the coverage that one comes
to is Beta(k, n + 1 - k), k = ceil((1 - alpha)(n + 1)), where scores have no ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom

from raysafe.generalization.shift_statistics import Floats
from raysafe.models.roc import conformal_place, conformal_quantile

Method = Literal["lac", "aps", "raps"]


def lac_scores(probabilities_NK: Floats) -> Floats:
    """1 less each label's probability (Sadinle et al. 2019): the smallest sets on average."""
    return 1.0 - probabilities_NK


def aps_scores(probabilities_NK: Floats, uniform_N: Floats, *, penalty: float = 0.0, free: int = 0) -> Floats:
    """The probability of all labels that are likelier than each, and a random part of its own (Romano et al. 2020).

    penalty: added for each place behind the `free` first ones (RAPS, Angelopoulos et al. 2021), which keeps sets small.
    """
    order_NK = np.argsort(-probabilities_NK, axis=1, kind="stable")
    sorted_NK = np.take_along_axis(probabilities_NK, order_NK, axis=1)
    before_NK = np.cumsum(sorted_NK, axis=1) - sorted_NK
    places_K = np.arange(1, probabilities_NK.shape[1] + 1)
    found_NK = before_NK + uniform_N[:, None] * sorted_NK + penalty * np.maximum(places_K - free, 0)
    scores_NK = np.empty_like(found_NK)
    np.put_along_axis(scores_NK, order_NK, found_NK, axis=1)
    return scores_NK


@dataclass(frozen=True)
class ConformalSets:
    """Sets of the labels whose score is at most the threshold. penalty, free: RAPS's."""

    method: Method
    threshold: float
    penalty: float = 0.01
    free: int = 1

    @classmethod
    def fit(
        cls,
        method: Method,
        probabilities_NK: Floats,
        y_N: NDArray[np.int64],
        alpha: float,
        rng: np.random.Generator,
        *,
        penalty: float = 0.01,
        free: int = 1,
    ) -> Self:
        """Calibrated on examples that the model hasn't learned from; raises DataError where they are too few."""
        sets = cls(method, float("inf"), penalty, free)
        own_N = sets.scores(probabilities_NK, rng)[np.arange(len(y_N)), y_N]
        return cls(method, conformal_quantile(own_N, alpha), penalty, free)

    def scores(self, probabilities_NK: Floats, rng: np.random.Generator) -> Floats:
        if self.method == "lac":
            return lac_scores(probabilities_NK)
        uniform_N = rng.random(len(probabilities_NK))
        penalty = self.penalty if self.method == "raps" else 0.0
        return aps_scores(probabilities_NK, uniform_N, penalty=penalty, free=self.free)

    def sets(self, probabilities_NK: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which labels are in each set, (N, K); one may be empty, which says that nothing fits."""
        return self.scores(probabilities_NK, rng) <= self.threshold


def coverage_interval(calibration: int, examples: int, alpha: float, confidence: float = 0.95) -> tuple[float, float]:
    """Between what shares of so many fresh examples are covered, over calibration sets of this size."""
    place = conformal_place(calibration, alpha)
    tail = (1 - confidence) / 2
    law = betabinom(examples, place, calibration + 1 - place)
    return float(law.ppf(tail)) / examples, float(law.ppf(1 - tail)) / examples


def coverage_quantile(calibration: int, alpha: float, probability: float) -> float:
    """Of the coverage that one calibration set comes to, over calibration sets of this size."""
    place = conformal_place(calibration, alpha)
    return float(beta.ppf(probability, place, calibration + 1 - place))


def stratified_coverage(sets_NK: NDArray[np.bool_], y_N: NDArray[np.int64]) -> dict[int, tuple[int, float]]:
    """By size of a set: how many there are, and the share that holds the label (Angelopoulos et al. 2021, section 4).

    Coverage on average may hide that large sets, of hard examples, miss more often.
    """
    size_N = sets_NK.sum(axis=1)
    covered_N = sets_NK[np.arange(len(y_N)), y_N]
    return {int(size): (int((size_N == size).sum()), float(covered_N[size_N == size].mean())) for size in set(size_N)}
