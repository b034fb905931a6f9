"""L2-regularised logistic regression by L-BFGS, and how well scores tell two classes apart."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from raysafe.errors import DataError, TrainingError


def fit_logistic(x_ND: np.ndarray, targets_N: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """(weights_D, bias) that minimise mean cross-entropy + l2 / 2 |weights|^2; targets are probabilities.

    The problem is strictly convex for l2 > 0. Raises TrainingError where L-BFGS doesn't reach the minimum.
    """
    found = minimize(
        lambda theta: logistic_loss(theta, x_ND, targets_N, l2),
        np.zeros(x_ND.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-13, "gtol": 1e-8},
    )
    if not found.success:
        raise TrainingError(f"logistic regression didn't converge ({found.message}): raise l2, now {l2:g}")
    return found.x[:-1], float(found.x[-1])


def logistic_loss(theta: np.ndarray, x_ND: np.ndarray, targets_N: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
    """The loss at theta = (weights, bias) and its gradient."""
    weights_D, bias = theta[:-1], theta[-1]
    logits_N = x_ND @ weights_D + bias
    loss = float((np.logaddexp(0.0, logits_N) - targets_N * logits_N).mean() + l2 / 2 * weights_D @ weights_D)
    errors_N = (expit(logits_N) - targets_N) / len(logits_N)
    return loss, np.append(x_ND.T @ errors_N + l2 * weights_D, errors_N.sum())


def platt(logits_N: np.ndarray, labels_N: np.ndarray) -> tuple[float, float]:
    """(slope, offset) with sigmoid(slope * logit + offset) calibrated; targets drawn in as in Platt 1999, eq. 11."""
    positive = int(labels_N.sum())
    negative = len(labels_N) - positive
    targets_N = np.where(labels_N, (positive + 1) / (positive + 2), 1 / (negative + 2))
    spread = float(logits_N.std()) or 1.0
    weights_1, bias = fit_logistic(logits_N[:, None] / spread, targets_N, 1e-9)
    return float(weights_1[0]) / spread, bias


def auroc(scores_N: np.ndarray, labels_N: np.ndarray) -> float:
    """P(score of a positive > score of a negative) + P(equal) / 2 (Mann and Whitney 1947); both classes are there."""
    positive = int(labels_N.sum())
    negative = len(labels_N) - positive
    return float((rankdata(scores_N)[labels_N].sum() - positive * (positive + 1) / 2) / (positive * negative))


def threshold_at(scores_M: np.ndarray, rate: float) -> float:
    """The lowest threshold that a fresh score from the distribution of scores_M reaches with probability <= rate.

    By exchangeability (split conformal prediction, Vovk et al. 2005): just above the ceil((1 - rate)(M + 1))-th lowest.
    Raises DataError where M is too small for the rate.
    """
    ordered_M = np.sort(scores_M)
    place = math.ceil((1 - rate) * (len(ordered_M) + 1))
    if place > len(ordered_M):
        raise DataError(
            f"a false-positive rate of {rate:g} needs {math.ceil(1 / rate) - 1} negative texts to set a threshold by, "
            f"got {len(ordered_M)}: give more, or raise false_positives"
        )
    return float(np.nextafter(ordered_M[place - 1], np.inf))
