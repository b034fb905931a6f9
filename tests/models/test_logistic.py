"""Logistic regression, calibration, ROC area and conformal thresholds against independent computations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies
from scipy.optimize import check_grad
from scipy.special import expit

from raysafe.errors import DataError
from raysafe.models.logistic import auroc, fit_logistic, logistic_loss, platt, threshold_at


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


def test_the_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(1)
    x_ND, y_N = rng.standard_normal((20, 3)), rng.random(20)
    loss, gradient = (lambda t: logistic_loss(t, x_ND, y_N, 0.3)[0]), (lambda t: logistic_loss(t, x_ND, y_N, 0.3)[1])
    assert check_grad(loss, gradient, rng.standard_normal(4)) < 1e-6


@given(strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.booleans()), min_size=2, max_size=20))
def test_the_area_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    scores_N, labels_N = np.array([score for score, _ in rows]), np.array([label for _, label in rows])
    if labels_N.all() or not labels_N.any():
        return
    pairs = list(itertools.product(scores_N[labels_N], scores_N[~labels_N]))
    wins = sum(float(p > n) + float(p == n) / 2 for p, n in pairs)
    assert auroc(scores_N, labels_N) == pytest.approx(wins / len(pairs))


def test_platt_finds_the_slope_and_offset_that_drew_the_labels() -> None:
    rng = np.random.default_rng(2)
    logits_N = 5 * rng.standard_normal(40_000)
    labels_N = rng.random(40_000) < expit(0.4 * logits_N - 0.7)
    assert platt(logits_N, labels_N) == pytest.approx((0.4, -0.7), abs=0.04)


@pytest.mark.parametrize(("n", "rate"), [(4, 0.2), (9, 0.25), (19, 0.05)])
def test_a_fresh_score_reaches_the_threshold_at_most_at_the_rate(n: int, rate: float) -> None:
    # all n + 1 scores are exchangeable, so the fresh one is each of them with the same probability
    scores = np.arange(n + 1.0)
    reached = [scores[i] >= threshold_at(np.delete(scores, i), rate) for i in range(n + 1)]
    assert rate - 1 / (n + 1) < np.mean(reached) <= rate


def test_too_few_scores_for_a_rate_are_an_error() -> None:
    with pytest.raises(DataError, match=r"a false-positive rate of 0.05 needs 19 negative texts .* got 18"):
        threshold_at(np.arange(18.0), 0.05)
