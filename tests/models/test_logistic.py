"""Logistic regression and calibration against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.sparse import csr_matrix
from scipy.special import expit

from raysafe.models.logistic import fit_logistic, logistic_loss, platt


def newton(x_ND: np.ndarray, y_N: np.ndarray, l2: float) -> np.ndarray:
    """The optimum by Newton's method (iteratively reweighted least squares)."""
    x_NE = np.hstack([x_ND, np.ones((len(x_ND), 1))])
    penalty_EE = np.diag([l2] * x_ND.shape[1] + [0.0])
    theta_E = np.zeros(x_NE.shape[1])
    for _ in range(50):
        p_N = expit(x_NE @ theta_E)
        gradient_E = x_NE.T @ (p_N - y_N) / len(y_N) + penalty_EE @ theta_E
        hessian_EE = x_NE.T @ (x_NE * (p_N * (1 - p_N))[:, None]) / len(y_N) + penalty_EE
        theta_E -= np.linalg.solve(hessian_EE, gradient_E)
    return theta_E


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_the_fit_is_newtons_optimum(l2: float) -> None:
    rng = np.random.default_rng(0)
    x_ND, y_N = rng.standard_normal((60, 4)), rng.random(60).round()
    weights_D, bias = fit_logistic(x_ND, y_N, l2)
    np.testing.assert_allclose(np.append(weights_D, bias), newton(x_ND, y_N, l2), atol=1e-5)


def test_a_row_that_counts_twice_is_as_good_as_two_and_sparse_rows_as_dense_ones() -> None:
    rng = np.random.default_rng(3)
    x_ND, y_N, counts_N = rng.standard_normal((40, 3)), rng.random(40).round(), rng.integers(1, 4, 40)
    weights_D, bias = fit_logistic(csr_matrix(x_ND), y_N, 0.1, counts_N)
    expected = newton(np.repeat(x_ND, counts_N, axis=0), np.repeat(y_N, counts_N), 0.1)
    np.testing.assert_allclose(np.append(weights_D, bias), expected, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(1)
    x_ND, y_N = rng.standard_normal((20, 3)), rng.random(20)
    loss, gradient = (lambda t: logistic_loss(t, x_ND, y_N, 0.3)[0]), (lambda t: logistic_loss(t, x_ND, y_N, 0.3)[1])
    assert check_grad(loss, gradient, rng.standard_normal(4)) < 1e-6


def test_platt_finds_the_slope_and_offset_that_drew_the_labels() -> None:
    rng = np.random.default_rng(2)
    logits_N = 5 * rng.standard_normal(40_000)
    labels_N = rng.random(40_000) < expit(0.4 * logits_N - 0.7)
    assert platt(logits_N, labels_N) == pytest.approx((0.4, -0.7), abs=0.04)
