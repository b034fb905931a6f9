"""Detectors of rows by scores of strangeness: what they find, their run length, and that they are saved whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.monitoring.detectors.detector import Detector, calibrate
from raysafe.monitoring.detectors.kinds import OF_ROWS, chart_config

SETTINGS = {"mahalanobis": {"reference": 200}, "knn": {"reference": 200, "neighbours": 5}}


def rows(rng: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Logits of a model that is sure of one of three classes; `shift` takes it away."""
    logits_NK = rng.standard_normal((count, 3))
    logits_NK[np.arange(count), rng.integers(0, 3, count)] += 5 * (1 - shift)
    return logits_NK


def calibrated(kind: str, seed: int, run_length: float = 100.0) -> Detector:
    config = chart_config({"kind": kind} | SETTINGS.get(kind, {}))
    rng = np.random.default_rng(seed)
    return calibrate(config, rows(rng, 1500), average_run_length=run_length, seed=seed)


def alarms(detector: Detector, values: np.ndarray) -> list[int]:
    return [at for at, value in enumerate(values) if detector.update(value) is not None]


@pytest.mark.parametrize("kind", OF_ROWS)
def test_rows_that_lose_their_class_are_found(kind: str) -> None:
    detector, rng = calibrated(kind, 0), np.random.default_rng(1)
    assert len(alarms(detector, rows(rng, 100))) <= 4
    assert alarms(detector, rows(rng, 40, shift=1.0))


def test_a_row_that_breaks_the_correlation_is_found_by_mahalanobis() -> None:
    rng = np.random.default_rng(2)

    def together(count: int) -> np.ndarray:
        base = rng.standard_normal(count)
        return np.stack([base, base + 0.1 * rng.standard_normal(count)], axis=1)

    config = chart_config({"kind": "mahalanobis"} | SETTINGS["mahalanobis"])
    detector = calibrate(config, together(1500), average_run_length=100)
    assert len(alarms(detector, together(200))) <= 6
    assert alarms(detector, rng.standard_normal((20, 2)))


@pytest.mark.parametrize("kind", OF_ROWS)
def test_the_stated_run_length_is_met_on_fresh_rows(kind: str) -> None:
    """100 is stated; 40 or so alarms of 4,000 rows have an error of some 16%, and a limit of 1,300 rows another."""
    detector, rng = calibrated(kind, 3), np.random.default_rng(4)
    found = alarms(detector, rows(rng, 4000))
    assert 4000 / len(found) == pytest.approx(100, rel=0.6)


@pytest.mark.parametrize("kind", OF_ROWS)
def test_a_saved_detector_goes_on_as_the_one_that_was_saved(kind: str) -> None:
    one, rng = calibrated(kind, 5), np.random.default_rng(6)
    alarms(one, rows(rng, 30))
    other = Detector.restored(json.loads(json.dumps(one.state())))
    after = rows(rng, 60, shift=0.7)
    assert alarms(one, after) == alarms(other, after)


@pytest.mark.parametrize("kind", OF_ROWS)
def test_single_numbers_are_refused_with_what_takes_them(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"{kind} takes rows of numbers.* ewma, cusum or ks"):
        calibrate(chart_config({"kind": kind}), np.arange(2000.0))


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="was fitted to rows of 3, got one of 2"):
        calibrated("knn", 7).update(np.zeros(2))


def test_too_few_rows_are_refused_with_what_is_needed() -> None:
    with pytest.raises(ConfigError, match="needs 700 calibration values, of which reference"):
        calibrate(chart_config({"kind": "knn"}), np.zeros((699, 2)))
