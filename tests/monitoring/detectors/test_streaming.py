"""ADWIN and streaming quantiles are those of river, an independent implementation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import drift, stats

from raysafe.monitoring.detectors.adwin import AdwinConfig
from raysafe.monitoring.detectors.detector import Detector
from raysafe.monitoring.detectors.quantile import StreamingQuantile


def stream(seed: int, pieces: int) -> np.ndarray:
    """Pieces of random length, level, spread and kind."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(pieces):
        count, level, spread = rng.integers(20, 300), rng.normal(0, 3), rng.exponential(1)
        found.append(rng.poisson(4, count) if rng.random() < 0.3 else level + spread * rng.standard_normal(count))
    return np.concatenate(found).astype(float)


@given(
    seed=st.integers(0, 2**16),
    pieces=st.integers(1, 5),
    delta=st.sampled_from([1e-4, 0.002, 0.05, 0.5]),
    every=st.sampled_from([1, 7, 32]),
    buckets=st.integers(2, 6),
    shortest=st.integers(1, 9),
)
def test_adwin_detects_when_rivers_does(
    seed: int, pieces: int, delta: float, every: int, buckets: int, shortest: int
) -> None:
    config = AdwinConfig(every=every, buckets=buckets, shortest=shortest)
    ours = Detector(config, np.zeros(2), math.log(1 / delta))
    theirs = drift.ADWIN(delta=delta, clock=every, max_buckets=buckets, min_window_length=shortest, grace_period=10)
    for value in stream(seed, pieces):
        theirs.update(value)
        assert (ours.update(value) is not None) == theirs.drift_detected


@given(seed=st.integers(0, 2**16), q=st.sampled_from([0.05, 0.25, 0.5, 0.9, 0.99]), count=st.integers(1, 300))
def test_a_streaming_quantile_is_rivers(seed: int, q: float, count: int) -> None:
    ours, theirs = StreamingQuantile(q), stats.Quantile(q)
    for value in np.random.default_rng(seed).gamma(2, size=count):
        ours.add(value)
        theirs.update(value)
    assert ours.value == pytest.approx(theirs.get(), rel=1e-9)


def test_the_median_of_the_papers_example() -> None:
    """Table I of Jain and Chlamtac (1985): after 20 observations the estimate is 4.44."""
    observed = [0.02, 0.15, 0.74, 3.39, 0.83, 22.37, 10.15, 15.43, 38.62, 15.92]
    observed += [34.60, 10.28, 1.47, 0.40, 0.05, 11.39, 0.27, 0.42, 0.09, 11.37]
    median = StreamingQuantile(0.5)
    for value in observed:
        median.add(value)
    assert median.value == pytest.approx(4.44, abs=0.005)


def test_a_saved_quantile_goes_on() -> None:
    one, other = StreamingQuantile(0.9), StreamingQuantile(0.9)
    values = np.random.default_rng(0).standard_normal(200)
    for value in values[:77]:
        one.add(value)
    other.load(json.loads(json.dumps(one.state())))
    for value in values[77:]:
        one.add(value)
        other.add(value)
    assert one.value == other.value


@pytest.mark.parametrize("q", [0, 1, -0.5])
def test_a_quantile_lies_between_0_and_1(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        StreamingQuantile(q)
