"""A control chart: a statistic of a stream of values, which grows as the stream departs from its reference.

Charts run R streams at once, each against a reference of its own, so that calibration is a simulation of the very code
that watches a service, where R is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError

LARGEST_REFERENCE = 5000
"""Calibration values that a mean and a deviation are taken of: the mean is then known to 1.4% of a deviation."""

Floats = NDArray[np.float64]
Side = Literal["both", "high", "low"]
Direction = Literal["high", "low", "change"]


class Chart(Protocol):
    """R streams under watch."""

    def step(self, values_R: Floats) -> Floats:
        """Take the next value of each stream; its statistic, -inf where there is none yet. Values of several numbers
        are rows: (R, D)."""
        ...

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        """Begin these streams anew, against the same reference."""
        ...

    def direction(self, row: int) -> Direction:
        """Where the values of a stream went."""
        ...

    def state(self) -> dict[str, Any]:
        """All that it goes on from, as JSON has it."""
        ...

    def load(self, state: dict[str, Any]) -> None: ...


class ChartConfig(Config):
    """What the kinds of charts have in common."""

    ranked: ClassVar[bool] = False
    """Whether statistics of one moment say little of the next, so that a limit is read off their ranks."""

    kind: str

    def needed(self, average_run_length: float) -> int:
        """Fewest calibration values for that run length."""
        raise NotImplementedError(f"{type(self).__name__} doesn't say how much it needs")

    def size(self, available: int) -> int:
        """How many calibration values are the reference; a chart that compares samples says otherwise."""
        return min(available, LARGEST_REFERENCE)

    def fitted(self, values: Floats | Sequence[str]) -> tuple[Self, Floats]:
        """The settings with what they take from calibration data, and those as numbers; raises ConfigError for text."""
        data_N = np.asarray(values)
        if data_N.dtype.kind not in "bifu":
            raise ConfigError(f"a detector of the kind {self.kind} takes numbers; psi takes names of categories")
        return self, data_N.astype(float)

    def coded(self, value: float | str | Floats) -> Floats:
        """A value as a number, or a row of them."""
        return np.asarray(value, float)

    def chart(self, references_RN: Floats) -> Chart:
        """Charts of R streams against R references of N values each, or of N rows: (R, N, D)."""
        raise NotImplementedError(f"{type(self).__name__} defines no chart")


class ComparingConfig(ChartConfig):
    """A chart that compares the newest values with a sample of the calibration values."""

    window: int = Field(default=50, ge=10, le=10_000, description="The newest values, which are compared.")
    reference: int = Field(default=500, ge=20, le=20_000, description="Calibration values that they are compared with.")

    def needed(self, average_run_length: float) -> int:
        return 4 * self.reference

    def size(self, available: int) -> int:
        return min(self.reference, available)


class SidedConfig(ChartConfig):
    """A chart of means or values, which may go up or down."""

    side: Side = Field(default="both", description="Watch for values that rise, that fall, or both.")


def sided(high_R: Floats, low_R: Floats, side: Side) -> Floats:
    """The statistic of the side that is watched."""
    if side == "both":
        return np.maximum(high_R, low_R)
    return high_R if side == "high" else low_R


def mean_and_deviation(references_RN: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (unbiased variance) of each reference; one that is constant has deviation 1."""
    deviation_R = references_RN.std(axis=1, ddof=1)
    return references_RN.mean(axis=1), np.where(deviation_R > 0, deviation_R, 1.0)


def windows_filled(count_R: NDArray[np.int64], width: int, statistic_R: Floats) -> Floats:
    """The statistic where the stream's window is full, -inf elsewhere."""
    return np.where(count_R >= width, statistic_R, -np.inf)
