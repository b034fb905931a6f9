"""L2-regularised logistic regression by L-BFGS, and Platt's calibration by it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

from raysafe.errors import TrainingError


def fit_logistic(
    x_ND: np.ndarray | csr_matrix, targets_N: np.ndarray, l2: float, counts_N: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """(weights_D, bias) that minimise mean cross-entropy + l2 / 2 |weights|^2; targets are probabilities.

    counts_N: how much each row counts in the mean; all alike by default. The problem is strictly convex for l2 > 0.
    Raises TrainingError where L-BFGS doesn't reach the minimum.
    """
    found = minimize(
        lambda theta: logistic_loss(theta, x_ND, targets_N, l2, counts_N),
        np.zeros(x_ND.shape[1] + 1),  # pyright: ignore[reportOptionalSubscript]
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-13, "gtol": 1e-8},
    )
    if not found.success:
        raise TrainingError(f"logistic regression didn't converge ({found.message}): raise l2, now {l2:g}")
    return found.x[:-1], float(found.x[-1])


def logistic_loss(
    theta: np.ndarray,
    x_ND: np.ndarray | csr_matrix,
    targets_N: np.ndarray,
    l2: float,
    counts_N: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The loss at theta = (weights, bias) and its gradient."""
    weights_D, bias = theta[:-1], theta[-1]
    logits_N = x_ND @ weights_D + bias
    shares_N = np.full(len(logits_N), 1 / len(logits_N)) if counts_N is None else counts_N / counts_N.sum()
    loss = float(shares_N @ (np.logaddexp(0.0, logits_N) - targets_N * logits_N) + l2 / 2 * weights_D @ weights_D)
    errors_N = shares_N * (expit(logits_N) - targets_N)
    return loss, np.append(x_ND.T @ errors_N + l2 * weights_D, errors_N.sum())


def platt(logits_N: np.ndarray, labels_N: np.ndarray) -> tuple[float, float]:
    """(slope, offset) with sigmoid(slope * logit + offset) calibrated; targets drawn in as in Platt 1999, eq. 11."""
    positive = int(labels_N.sum())
    negative = len(labels_N) - positive
    targets_N = np.where(labels_N, (positive + 1) / (positive + 2), 1 / (negative + 2))
    spread = float(logits_N.std()) or 1.0
    weights_1, bias = fit_logistic(logits_N[:, None] / spread, targets_N, 1e-9)
    return float(weights_1[0]) / spread, bias
