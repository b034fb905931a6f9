"""Recall at a fixed false-positive rate, and the area under the curve, with their intervals.

A guard catches a text whose score reaches a threshold. The threshold for a false-positive rate is the lowest that no
more than this share of the benign texts reaches; where even the highest score is shared by more, nothing is caught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysafe.records.statistics import Estimate, wilson_interval


@dataclass(frozen=True)
class RecallAt:
    """Recall at a false-positive rate; `reached` is the rate on the benign texts, at most `level`."""

    level: float
    threshold: float
    recall: Estimate
    reached: Estimate


def threshold_at(benign_N: np.ndarray, level: float) -> float:
    """The empirical threshold of the benign scores; infinity where only none would do.

    Scores end at 1: where more than that share of the benign texts has the highest score, no threshold is left.
    """
    from raysafe.models.roc import empirical_threshold

    if np.asarray(benign_N).size == 0:
        raise ValueError("a threshold needs benign scores")
    threshold = empirical_threshold(benign_N, level)
    return threshold if threshold <= 1 else float("inf")


def recall_at(attacks_N: np.ndarray, benign_N: np.ndarray, level: float, confidence: float = 0.95) -> RecallAt:
    """Recall of the attacks at the benign texts' threshold, with Wilson's interval over the attacks."""
    threshold = threshold_at(benign_N, level)
    return RecallAt(
        level, threshold, share_at(attacks_N, threshold, confidence), share_at(benign_N, threshold, confidence)
    )


def share_at(scores_N: np.ndarray, threshold: float, confidence: float = 0.95) -> Estimate:
    """The share of scores that reach a threshold."""
    scores_N = np.asarray(scores_N, dtype=np.float64)
    return wilson_interval(int((scores_N >= threshold).sum()), scores_N.size, confidence)


def area_under_curve(labels_N: np.ndarray, scores_N: np.ndarray, confidence: float = 0.95) -> Estimate:
    """P(an attack scores over a benign text), ties one half, with DeLong's interval (DeLong et al. 1988).

    labels_N: 1 for attacks, 0 for benign texts; two of each at least.
    """
    from scipy.stats import norm, rankdata

    from raysafe.models.roc import auroc

    labels_N, scores_N = np.asarray(labels_N), np.asarray(scores_N, dtype=np.float64)
    attacks, benign = scores_N[labels_N == 1], scores_N[labels_N == 0]
    m, n = attacks.size, benign.size
    if min(m, n) < 2:
        raise ValueError(f"the area under a curve needs 2 texts of each label, got {m} and {n}")
    ranks = rankdata(np.concatenate((attacks, benign)))
    # the midrank among all, less that among its own kind, counts the others below (Sun and Xu 2014)
    over_M = (ranks[:m] - rankdata(attacks)) / n
    under_N = 1 - (ranks[m:] - rankdata(benign)) / m
    area = auroc(scores_N, labels_N == 1)
    error = float(np.sqrt(over_M.var(ddof=1) / m + under_N.var(ddof=1) / n))
    half = float(norm.ppf(0.5 + confidence / 2)) * error
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), m + n)
