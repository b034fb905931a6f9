"""The space of a sweep: fields of a job by their dotted names, the values that each may take, and plans of trials."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError

MOST_TRIALS = 10_000
Values = Annotated[tuple[Any, ...], Field(min_length=1)]


class Range(Config):
    """Numbers between two bounds, both included."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    scale: Literal["linear", "log"] = Field(
        default="linear", description="Equal steps, or equal factors: of points, and of what is drawn."
    )
    whole: bool = Field(default=False, description="Whole numbers only.")
    points: int | None = Field(default=None, ge=2, description="How many values a grid takes; grid only.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic range needs bounds above 0, got low {self.low:g}: use scale linear")
        if self.whole and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError(f"bounds of whole numbers must be whole, got {self.low:g} and {self.high:g}")
        return self

    def at(self, share: float) -> float | int:
        """The number that lies at a share, 0 to 1, of the way from low to high."""
        if self.scale == "log":
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        # twelve digits, so that 0.1 stays 0.1
        return round(value) if self.whole else min(self.high, max(self.low, float(f"{value:.12g}")))

    def grid(self) -> list[float | int]:
        """Its points, each once."""
        assert self.points is not None
        return list(dict.fromkeys(self.at(index / (self.points - 1)) for index in range(self.points)))


Dimension = Values | Range
Settings = dict[str, Any]
"""A value for each field of a space."""


def grid(space: Mapping[str, Dimension]) -> list[Settings]:
    """Every combination of values, the last field changing fastest; raises ConfigError where there is no end of them.

    A range takes its points.
    """
    values = []
    for name, dimension in space.items():
        if isinstance(dimension, Range) and dimension.points is None:
            raise ConfigError(f"space.{name} is a range without points: give it points for a grid, or a list of values")
        values.append(dimension.grid() if isinstance(dimension, Range) else list(dimension))
    if math.prod(map(len, values)) > MOST_TRIALS:
        raise ConfigError(
            f"the grid has {math.prod(map(len, values)):,} points, at most {MOST_TRIALS:,} are tried: "
            "give fewer values, or use method random"
        )
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]


def draws(space: Mapping[str, Dimension], count: int, seed: int) -> list[Settings]:
    """`count` independent points of the space; the first ones are the same whatever the count."""
    rng = np.random.default_rng(seed)
    return [{name: _draw(dimension, rng) for name, dimension in space.items()} for _ in range(count)]


def corners(space: Mapping[str, Dimension]) -> list[Settings]:
    """Points that together hold every value, and both ends of every range: what shows a value that a job refuses."""
    ends = {
        name: [dimension.at(0), dimension.at(1)] if isinstance(dimension, Range) else list(dimension)
        for name, dimension in space.items()
    }
    longest = max(map(len, ends.values()), default=0)
    return [{name: values[min(index, len(values) - 1)] for name, values in ends.items()} for index in range(longest)]


def _draw(dimension: Dimension, rng: np.random.Generator) -> Any:
    if isinstance(dimension, Range):
        return dimension.at(float(rng.random()))
    return dimension[int(rng.integers(len(dimension)))]


def with_settings(base: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The base's values with each field, a dotted path, set; raises ConfigError for a path without a place."""
    values = copy.deepcopy(dict(base))
    for name, value in settings.items():
        *path, last = name.split(".")
        inner = values
        for index, part in enumerate(path):
            if not isinstance(inner.get(part) or {}, dict):
                raise ConfigError(f"space.{name} names a field inside {'.'.join(path[: index + 1])}, which has none")
            # null stands for an inner config that is left out
            inner[part] = dict(inner.get(part) or {})
            inner = inner[part]
        inner[last] = value
    return values


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """The reverse of `with_settings` for one field: what stands at a dotted path."""
    inner: Any = values
    for part in name.split("."):
        inner = inner[part]
    return inner


def label(settings: Sequence[tuple[str, Any]] | Mapping[str, Any]) -> str:
    """How a point of the space is written: `training.epochs 3, beta 0.1`."""
    items = settings.items() if isinstance(settings, Mapping) else settings
    return ", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in items)
