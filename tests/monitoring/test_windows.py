"""Windows: sums that are exact, samples that are drawn evenly, bounds that hold; through the store and back."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.monitoring.figures import live_figures, monitor_state
from raysafe.monitoring.window_store import read_windows, write_windows
from raysafe.monitoring.windows import CATEGORIES, METRICS, SAMPLE, Summary, Window, WindowBuilder
from raysafe.records.store import Store

START = datetime(2026, 11, 26, tzinfo=UTC)
VALUES = st.lists(st.floats(-1e6, 1e6), max_size=300)


def summary(values: list[float]) -> Summary:
    made, draw = Summary(), random.Random(0)
    for value in values:
        made.add(value, draw)
    return made


@given(VALUES, VALUES)
def test_sums_of_two_windows_are_those_of_all_their_values(first: list[float], second: list[float]) -> None:
    joined = summary(first).joined(summary(second))
    both = np.array([*first, *second])
    assert joined.count == len(both)
    assert joined.total == pytest.approx(both.sum(), rel=1e-9, abs=1e-6)
    assert joined.total_squares == pytest.approx((both**2).sum(), rel=1e-9, abs=1e-6)
    if len(both):
        assert (joined.low, joined.high) == (both.min(), both.max())


def test_the_sample_is_drawn_evenly_from_the_whole_window() -> None:
    """2,000 values into places for SAMPLE: each tenth of them is drawn as often, by a chi-squared test."""
    counts = np.zeros(10)
    for seed in range(40):
        made, draw = Summary(), random.Random(seed)
        for value in range(2000):
            made.add(float(value), draw)
        assert len(made.sample) == SAMPLE
        counts += np.bincount(np.array(made.sample, dtype=int) // 200, minlength=10)
    expected = counts.sum() / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9, "the 99.9% quantile of chi-squared with 9 degrees"


@given(st.dictionaries(st.text(max_size=8), VALUES.filter(bool), max_size=5))
def test_a_window_comes_back_from_json_as_it_was(metrics: dict[str, list[float]]) -> None:
    builder = WindowBuilder()
    for name, values in metrics.items():
        builder.add((name, value) for value in values)
        builder.count("safety.tools", name)
    window = builder.close(5.0)
    assert Window.read(json.loads(json.dumps(window.body()))) == window


def test_names_of_others_choosing_are_bounded_and_what_is_left_out_is_counted() -> None:
    builder = WindowBuilder()
    builder.add((f"safety.score.{number}", 1.0) for number in range(METRICS + 7))
    builder.add([("safety.score.0", math.nan)])
    for number in range(1000):
        builder.count("safety.tools", f"tool {number}")
    window = builder.close(1.0)
    assert len(window.numbers) == METRICS + 1
    assert window.numbers["monitor.left_out"].total == 8
    assert len(window.categories["safety.tools"]) == CATEGORIES
    assert sum(window.categories["safety.tools"].values()) == 1000


def test_a_closed_builder_begins_anew() -> None:
    builder = WindowBuilder()
    builder.add([("performance.seconds", 1.0)])
    builder.close(1.0)
    assert builder.close(1.0) == Window(1.0)


def of(**figures: list[float]) -> Window:
    builder = WindowBuilder()
    for name, values in figures.items():
        builder.add((name.replace("_", ".", 1), value) for value in values)
    return builder.close(5.0)


def test_the_monitor_reads_all_gateways_windows_in_order(store: Store) -> None:
    for gateway in ("a", "b", "a"):
        write_windows(store, "m", gateway, [(START, of(performance_seconds=[1.0]))])
    with store.reading() as session:
        found = read_windows(session, 0)
        assert [each.gateway for each in found] == ["a", "b", "a"]
        assert [each.gateway for each in read_windows(session, found[1].id)] == ["a"]
        assert read_windows(session, 0, service="other") == []
        assert found[0].window.numbers["performance.seconds"].mean == 1.0


def test_live_figures_join_all_gateways(store: Store) -> None:
    write_windows(store, "m", "a", [(START, of(performance_seconds=[1.0, 2.0]))])
    write_windows(store, "m", "b", [(START, of(performance_seconds=[6.0], safety_blocked=[0.0]))])
    write_windows(store, "n", "c", [(START, of(performance_seconds=[9.0]))])
    found = live_figures(store, "m")
    assert found[0] == ("m", "performance", "performance.seconds", 3, 3.0, 1.0, 6.0)
    assert [figure.metric for figure in found] == ["performance.seconds", "safety.blocked"]
    assert live_figures(store, "m", last_s=-1) == []
    assert monitor_state(store) == []
