"""The Pareto front, against its definition."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from raysafe.runtime.pareto import non_dominated

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


def test_a_worked_front() -> None:
    points = [(0.9, 0.1), (0.8, 0.5), (0.7, 0.4), (0.5, 0.7)]
    assert non_dominated(points, ("max", "max")) == [True, True, False, True]


def test_modes_turn_the_figures() -> None:
    assert non_dominated([(1, 1), (2, 2)], ("min", "max")) == [True, True]
    assert non_dominated([(1, 1), (2, 2)], ("min", "min")) == [True, False]


@given(POINTS)
def test_a_point_is_on_the_front_unless_another_is_as_good_everywhere_and_better_somewhere(points) -> None:
    def beats(a, b) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    expected = [not any(beats(other, point) for other in points) for point in points]
    assert non_dominated(points, ("max", "max")) == expected


def test_an_unmeasured_point_is_not_on_the_front_and_beats_none() -> None:
    assert non_dominated([(math.nan, 9), (1, 1)], ("max", "max")) == [False, True]
