"""Spaces of settings: what a grid, a draw and the corners are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import ConfigError
from raysafe.evaluation.sweep.space import Range, corners, draws, grid, label, value_at, with_settings

FINITE = st.floats(min_value=1e-6, max_value=1e6)


def test_a_grid_is_every_combination_with_the_last_field_fastest() -> None:
    space = {"a": (1, 2), "b": ("x", "y")}
    assert [tuple(point.values()) for point in grid(space)] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_points_of_a_logarithmic_range_lie_at_equal_factors() -> None:
    assert Range(low=0.01, high=1.0, scale="log", points=3).grid() == [0.01, 0.1, 1.0]


def test_points_of_whole_numbers_come_once_each() -> None:
    assert Range(low=1, high=3, whole=True, points=7).grid() == [1, 2, 3]


def test_a_range_without_points_has_no_grid() -> None:
    with pytest.raises(ConfigError, match=r"space\.a is a range without points"):
        grid({"a": Range(low=0, high=1)})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 1, "high": 1}, "low must be below high"),
        ({"low": 0, "high": 1, "scale": "log"}, "needs bounds above 0, got low 0"),
        ({"low": 0.5, "high": 2, "whole": True}, "must be whole"),
        ({"low": 0, "high": 1, "step": 2}, "unknown field 'step'"),
    ],
)
def test_an_impossible_range_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Range.parse(values)


@given(FINITE, FINITE, st.sampled_from(["linear", "log"]), st.integers(0, 5))
def test_what_is_drawn_lies_in_the_range(first: float, second: float, scale, seed: int) -> None:
    low, high = sorted((first, second))
    if low == high:
        return
    space = {"a": Range(low=low, high=high, scale=scale)}
    assert all(low <= point["a"] <= high for point in [*draws(space, 5, seed), *corners(space)])


def test_logarithmic_draws_fall_equally_into_each_decade() -> None:
    found = [point["a"] for point in draws({"a": Range(low=0.001, high=1.0, scale="log")}, 3000, 0)]
    counts = [sum(10**k <= value < 10 ** (k + 1) for value in found) for k in (-3, -2, -1)]
    # three standard deviations of a third of 3000
    assert all(abs(count - 1000) < 3 * math.sqrt(3000 * 2 / 9) for count in counts)


def test_more_draws_begin_with_the_same_ones() -> None:
    space = {"a": Range(low=0, high=1), "b": (1, 2, 3)}
    assert draws(space, 9, 4)[:5] == draws(space, 5, 4) != draws(space, 5, 5)


def test_corners_hold_every_value_and_both_ends() -> None:
    found = corners({"a": (1, 2, 3), "b": Range(low=0.5, high=2)})
    assert {point["a"] for point in found} == {1, 2, 3} and {point["b"] for point in found} == {0.5, 2}


def test_a_dotted_field_is_set_where_it_belongs_and_nothing_else_changes() -> None:
    base = {"job": "dpo", "training": {"epochs": 3, "batch_size": 4}, "lora": None}
    found = with_settings(base, {"training.epochs": 1, "lora.rank": 8, "beta": 0.2})
    assert found == {"job": "dpo", "training": {"epochs": 1, "batch_size": 4}, "lora": {"rank": 8}, "beta": 0.2}
    assert base["training"] == {"epochs": 3, "batch_size": 4}
    assert value_at(found, "training.epochs") == 1


def test_a_field_inside_what_holds_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="names a field inside beta, which has none"):
        with_settings({"beta": 0.1}, {"beta.deep": 1})


def test_a_point_is_written_with_its_fields() -> None:
    assert label({"beta": 0.1, "kind": "ipo"}) == "beta 0.1, kind ipo"
