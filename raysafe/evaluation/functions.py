"""Judges and detectors as `module:function`, and what they may return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from raysafe.errors import ConfigError

Behaviour = Literal["complies", "refuses", "off-topic"]
Messages = list[dict[str, str]]
Detector = Callable[[Messages, str], Behaviour]
"""(prompt, answer) -> what the answer does."""
Comparison = Callable[[Messages, str, str], float]
"""(prompt, first, second) -> 1 where the first is better, 0 where the second is, 0.5 for a tie."""


def checked_behaviour(value: Any, name: str) -> Behaviour:
    """A detector's answer, or ConfigError where it isn't one of the allowed words."""
    if value not in get_args(Behaviour):
        allowed = ", ".join(get_args(Behaviour))
        raise ConfigError(f"detector {name} returned {value!r}; it must return one of {allowed}")
    return value


def checked_preference(value: Any, name: str) -> float:
    """A judge's answer, or ConfigError where it isn't a number from 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"judge {name} returned {value!r}; it must return a number from 0 (second) to 1 (first)")
    return float(value)
