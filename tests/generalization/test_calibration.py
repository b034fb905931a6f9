"""Errors of calibration against scikit-learn's, numbers worked by hand and planted truths; temperatures at optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from raysafe.errors import DataError
from raysafe.generalization.calibration import (
    brier_scores,
    chance_error,
    expected_calibration_error,
    fit_temperature,
    log_losses,
    reliability,
    squared_calibration_error,
)


def drawn(seed: int, cases: int = 200, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the probabilities of the logits by `sharpness`: calibrated where that is 1."""
    rng = np.random.default_rng(seed)
    logits_NK = 2 * rng.standard_normal((cases, 4))
    cumulated_NK = np.cumsum(softmax(sharpness * logits_NK, axis=1), axis=1)
    return logits_NK, (rng.random((cases, 1)) > cumulated_NK[:, :-1]).sum(axis=1)


@pytest.mark.parametrize(("by", "strategy"), [("mass", "quantile"), ("width", "uniform")])
def test_the_diagram_is_scikit_learns(by: str, strategy: str) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(300)
    outcome = rng.random(300) < confidence**2
    found = reliability(confidence, outcome, 10, by)  # pyright: ignore[reportArgumentType]
    accuracy, mean = calibration_curve(outcome, confidence, n_bins=10, strategy=strategy)
    assert found.confidence_B == pytest.approx(mean) and found.accuracy_B == pytest.approx(accuracy)


def test_the_expected_error_is_that_worked_by_hand() -> None:
    """Bins (0, 0.5] of 0.2, 0.4 with one right, and (0.5, 1] of 0.9, 1.0 with both: 2/4 x 0.2 + 2/4 x 0.05."""
    confidence, outcome = np.array([0.9, 0.2, 1.0, 0.4]), np.array([True, False, True, True])
    assert expected_calibration_error(confidence, outcome, 2, "width") == pytest.approx(0.125)


def test_the_squared_error_is_unbiased_where_the_plain_one_is_not() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(1000):
        confidence = rng.random(100)
        outcome = rng.random(100) < confidence
        found.append([squared_calibration_error(confidence, outcome, 10, debiased=by) for by in (True, False)])
    debiased, plain = np.mean(found, axis=0)
    error = np.std(found, axis=0)[0] / np.sqrt(1000)
    # within a bin, confidences spread: the mean over its cases is what is right, up to that
    assert abs(debiased) < 4 * error and plain > 0.01


def test_the_squared_error_finds_a_planted_one() -> None:
    """Everybody says 0.8 and half are right: 0.09."""
    rng = np.random.default_rng(2)
    found = [squared_calibration_error(np.full(200, 0.8), rng.random(200) < 0.5, 5) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.09, abs=0.004)


def test_a_calibrated_model_stays_below_the_error_of_chance_in_19_of_20_cases() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.4, 1, 120)
    limit = chance_error(confidence, rng, draws=400)
    errors = [expected_calibration_error(confidence, rng.random(120) < confidence) for _ in range(400)]
    assert np.mean(np.array(errors) <= limit) == pytest.approx(0.95, abs=0.04)
    assert expected_calibration_error(confidence, rng.random(120) < confidence - 0.35) > limit


def test_proper_scores_are_scikit_learns() -> None:
    logits_NK, y_N = drawn(4)
    probabilities_NK = softmax(logits_NK, axis=1)
    assert log_losses(logits_NK, y_N).mean() == pytest.approx(log_loss(y_N, probabilities_NK))
    wanted = brier_score_loss(y_N, probabilities_NK, labels=range(4), scale_by_half=False)
    assert brier_scores(probabilities_NK, y_N).mean() == pytest.approx(wanted)


@given(seed=st.integers(0, 2**16), scale=st.floats(0.05, 50))
def test_a_temperature_is_where_the_loss_is_least(seed: int, scale: float) -> None:
    """scipy's bounded search by the loss alone is the oracle."""
    logits_NK, y_N = drawn(seed)
    found = fit_temperature(scale * logits_NK, y_N)
    wanted = minimize_scalar(
        lambda log: log_losses(scale * logits_NK, y_N, float(np.exp(log))).mean(),
        bounds=(np.log(scale) - 3, np.log(scale) + 3),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(np.exp(wanted.x), rel=1e-4)


@given(seed=st.integers(0, 2**16), scale=st.floats(0.1, 10))
def test_a_temperature_takes_back_what_logits_were_multiplied_with(seed: int, scale: float) -> None:
    logits_NK, y_N = drawn(seed)
    assert fit_temperature(scale * logits_NK, y_N) == pytest.approx(scale * fit_temperature(logits_NK, y_N), rel=1e-6)


def test_an_overconfident_model_is_cooled_to_its_own_sharpness() -> None:
    logits_NK, y_N = drawn(5, 20_000, sharpness=0.5)
    assert fit_temperature(logits_NK, y_N) == pytest.approx(2.0, rel=0.05)


def test_where_no_temperature_is_best_that_is_said() -> None:
    logits_NK, _ = drawn(6)
    with pytest.raises(DataError, match="right in all 200 cases"):
        fit_temperature(logits_NK, logits_NK.argmax(axis=1))
    with pytest.raises(DataError, match="no more of the labels than chance"):
        fit_temperature(logits_NK, logits_NK.argmin(axis=1))
    with pytest.raises(DataError, match="15 bins need 30 cases"):
        squared_calibration_error(np.ones(20), np.ones(20, bool))
