"""Each kind: what it finds, what it is indifferent to, and that a saved one goes on as if nothing had been."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, ks_2samp

from raysafe.errors import ConfigError
from raysafe.monitoring.detectors.detector import Detector, calibrate
from raysafe.monitoring.detectors.kinds import OF_NUMBERS, chart_config
from raysafe.monitoring.detectors.ks import KsConfig
from raysafe.monitoring.detectors.mmd import MmdConfig
from raysafe.monitoring.detectors.psi import PsiConfig

SMALL = {
    "threshold": {},
    "robust_z": {"window": 20},
    "ewma": {},
    "cusum": {},
    "psi": {"window": 20, "reference": 100},
    "ks": {"window": 20, "reference": 100},
    "mmd": {"window": 20, "reference": 40},
    "adwin": {"every": 8},
}
LIMITS = {"threshold": 3, "robust_z": 3.5, "ewma": 3, "cusum": 5, "psi": 1.2, "ks": 1.7, "mmd": 0.2, "adwin": 3}


def made(kind: str, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Detector:
    """A detector of this kind against normal values, with a limit fit for its small windows."""
    reference = scale * np.random.default_rng(seed).standard_normal(100) + shift
    config = chart_config({"kind": kind} | SMALL[kind])
    limit = LIMITS[kind] * (scale if kind == "threshold" else 1.0)
    return Detector(config, reference[: config.size(100)], limit)


def alarms(detector: Detector, values: np.ndarray) -> list[int]:
    return [at for at, value in enumerate(values) if detector.update(value) is not None]


@pytest.mark.parametrize("kind", sorted(OF_NUMBERS))
def test_a_shift_of_three_deviations_is_found(kind: str) -> None:
    rng = np.random.default_rng(1)
    detector = made(kind)
    alarms(detector, rng.standard_normal(100))
    found = alarms(detector, rng.standard_normal(150) + 3)
    assert found and found[0] <= 40


@pytest.mark.parametrize("kind", ["cusum", "ewma", "ks", "threshold", "robust_z", "adwin"])
@pytest.mark.parametrize("direction", ["high", "low"])
def test_where_values_went_is_told(kind: str, direction: str) -> None:
    rng = np.random.default_rng(2)
    detector = made(kind)
    alarms(detector, rng.standard_normal(100))
    shift = 4.0 if direction == "high" else -4.0
    found = [d for value in rng.standard_normal(100) + shift if (d := detector.update(value)) is not None]
    assert found[0].direction == direction and found[0].statistic > found[0].limit


@pytest.mark.parametrize("kind", ["threshold", "robust_z", "ewma", "cusum"])
def test_a_side_that_is_not_watched_raises_no_alarm(kind: str) -> None:
    rng = np.random.default_rng(3)
    config = chart_config({"kind": kind, "side": "high"} | SMALL[kind])
    detector = Detector(config, rng.standard_normal(100), float(LIMITS[kind]))
    assert not alarms(detector, -np.abs(rng.standard_normal(200)) - 1)
    assert alarms(detector, np.abs(rng.standard_normal(200)) + 4)


@pytest.mark.parametrize("kind", ["psi", "ks", "mmd"])
def test_a_change_of_spread_alone_is_found(kind: str) -> None:
    rng = np.random.default_rng(4)
    assert alarms(made(kind), 5 * rng.standard_normal(200))


@given(
    kind=st.sampled_from(sorted(OF_NUMBERS)),
    before=st.integers(0, 70),
    seed=st.integers(0, 2**16),
)
def test_a_saved_detector_goes_on_as_the_one_that_was_saved(kind: str, before: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.standard_normal(40), rng.standard_normal(80) + 3])
    one = made(kind)
    alarms(one, values[:before])
    other = Detector.restored(json.loads(json.dumps(one.state())))
    assert [other.update(value) for value in values[before:]] == [one.update(value) for value in values[before:]]


@given(
    kind=st.sampled_from(sorted(set(OF_NUMBERS) - {"adwin"})),
    scale=st.floats(0.01, 100),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 2**16),
)
def test_units_of_measurement_change_nothing(kind: str, scale: float, shift: float, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(120)
    values[60:] += 2
    assert alarms(made(kind), values) == alarms(made(kind, scale=scale, shift=shift), scale * values + shift)


@given(kind=st.sampled_from(sorted(OF_NUMBERS)), seed=st.integers(0, 2**16), factor=st.floats(1, 3))
def test_a_higher_limit_never_alarms_sooner(kind: str, seed: int, factor: float) -> None:
    values = np.random.default_rng(seed).standard_normal(150)
    values[50:] += 1.5
    one, other = made(kind), made(kind)
    other.limit = one.limit * factor
    first, second = alarms(one, values), alarms(other, values)
    assert not second or first[0] <= second[0]


@given(seed=st.integers(0, 2**16), ties=st.booleans())
def test_the_ks_statistic_is_scipys(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    reference, values = rng.standard_normal(60), rng.standard_normal(45) + 0.3
    if ties:
        reference, values = reference.round(), values.round()
    chart = KsConfig(window=20, reference=60, every=1).chart(reference[None])
    statistics = [float(chart.step(np.array([value]))[0]) for value in values]
    assert statistics[:19] == [-np.inf] * 19
    for end in (20, 31, 45):
        wanted = ks_2samp(values[end - 20 : end], reference).statistic * np.sqrt(20 * 60 / 80)
        assert statistics[end - 1] == pytest.approx(wanted)


def test_the_psi_is_the_formula_on_numbers_worked_by_hand() -> None:
    """Reference 0, 0, 0, 1 (x 25) and a window of 10 zeros and 10 ones; half a value is added to each of two bins."""
    chart = PsiConfig(window=20, reference=100).chart(np.tile([0.0, 0, 0, 1], 25)[None])
    statistics = [float(chart.step(np.array([float(i % 2)]))[0]) for i in range(20)]
    p, q = 10.5 / 21, 75.5 / 101
    assert statistics[-1] == pytest.approx((p - q) * np.log(p / q) + (q - p) * np.log((1 - p) / (1 - q)))


@given(seed=st.integers(0, 2**16))
def test_the_mmd_is_the_unbiased_estimate_summed_plainly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, values = rng.standard_normal((40, 3)), rng.standard_normal((45, 3))
    chart = MmdConfig(window=20, reference=40).chart(reference[None])
    statistics = [float(chart.step(value[None])[0]) for value in values]
    distances = [np.sum((a - b) ** 2) for i, a in enumerate(reference) for b in reference[:i]]
    gamma = 1 / (2 * np.median(distances))

    def mean_kernel(one: np.ndarray, other: np.ndarray, same: bool) -> float:
        found = [
            np.exp(-gamma * np.sum((a - b) ** 2))
            for i, a in enumerate(one)
            for j, b in enumerate(other)
            if not (same and i == j)
        ]
        return float(np.mean(found))

    window = values[25:]
    wanted = mean_kernel(reference, reference, True) + mean_kernel(window, window, True)
    assert statistics[-1] == pytest.approx(wanted - 2 * mean_kernel(window, reference, False), abs=1e-9)


def test_an_mmd_of_vectors_finds_what_no_coordinate_shows() -> None:
    rng = np.random.default_rng(5)
    detector = Detector(MmdConfig(reference=100), rng.standard_normal((100, 2)), 0.05)
    assert not alarms(detector, rng.standard_normal((150, 2)))
    turned = rng.standard_normal(150)
    assert alarms(detector, np.stack([turned, turned], axis=1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        made("cusum").update(value)


def test_categories_are_counted_by_name_and_new_ones_together() -> None:
    rng = np.random.default_rng(6)
    names = ["allow", "block", "hold"]
    detector = calibrate(PsiConfig(), rng.choice(names, 3000, p=[0.9, 0.08, 0.02]), average_run_length=200)
    assert detector.config.model_dump()["categories"] == ("allow", "block", "hold")
    twin = Detector.restored(json.loads(json.dumps(detector.state())))
    assert not any(detector.update(str(name)) for name in rng.choice(names, 110, p=[0.9, 0.08, 0.02]))
    assert any(detector.update(str(name)) for name in rng.choice(names, 100, p=[0.6, 0.38, 0.02]))
    assert any(twin.update("never seen") for _ in range(100))


@given(seed=st.integers(0, 2**16))
def test_the_psi_of_categories_is_jeffreys_divergence(seed: int) -> None:
    """scipy's relative entropies, both ways, of the shares with half a value added to each."""
    rng = np.random.default_rng(seed)
    config, data = PsiConfig(window=30, reference=60).fitted(rng.choice(["a", "b", "c"], 60))
    chart = config.chart(data[None])
    values = rng.choice(["a", "b", "d"], 30)
    statistic = [float(chart.step(config.coded(str(value))[None])[0]) for value in values][-1]
    bins = len(config.model_dump()["categories"]) + 1
    p = np.bincount(data.astype(int), minlength=bins) + 0.5
    q = np.bincount([int(config.coded(str(value))) for value in values], minlength=bins) + 0.5
    assert statistic == pytest.approx(entropy(p, q) + entropy(q, p))


def test_names_are_refused_where_numbers_are_wanted_and_numbers_where_names_are() -> None:
    with pytest.raises(ConfigError, match="cusum takes numbers"):
        calibrate(chart_config({"kind": "cusum"}), ["a"] * 3000)
    with pytest.raises(ConfigError, match="takes names"):
        calibrate(PsiConfig(categories=("a",)), np.zeros(3000))
    with pytest.raises(ValueError, match="takes names, got 1"):
        PsiConfig(categories=("a",)).coded(1.0)


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown kind 'cusam' \(rules.yaml\); did you mean 'cusum'"):
        chart_config({"kind": "cusam"}, "rules.yaml")
