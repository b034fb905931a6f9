"""ADWIN: a window that is as long as its mean stays one (Bifet and Gavalda 2007), over an exponential histogram.

Two parts of the window differ where their means are further apart than eps = sqrt(2 v d / m) + 2 d / (3 m), with 1/m
the sum of the parts' reciprocal lengths, v the window's variance and d = ln(2 ln(n) / delta). The statistic here is the
largest ln(1 / delta) at which some cut would be one: before the first detection it doesn't depend on delta, so that one
simulation gives the run length of every delta.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.monitoring.detectors.chart import ChartConfig, Direction, Floats


class AdwinConfig(ChartConfig):
    """`kind: adwin`: change of a mean, at whatever pace, from the level that it finds: it needs no reference."""

    kind: Literal["adwin"] = "adwin"
    every: int = Field(default=32, ge=1, description="Look for a cut at each such number of values.")
    buckets: int = Field(default=5, ge=2, description="Buckets of a size before two are merged.")
    shortest: int = Field(default=5, ge=1, description="Values in the shorter part of a cut, at least.")
    grace: int = Field(default=10, ge=1, description="Values before the first cut.")

    def needed(self, average_run_length: float) -> int:
        return 200

    def chart(self, references_RN: Floats) -> AdwinChart:
        return AdwinChart(self, len(references_RN))


class AdwinChart:
    """The windows of R streams."""

    def __init__(self, config: AdwinConfig, rows: int) -> None:
        self._window, self._rows = AdaptiveWindow(config), rows

    def step(self, values_R: Floats) -> Floats:
        # numbers cost a tenth of arrays of one number
        found = self._window.add(float(values_R[0]) if self._rows == 1 else values_R)
        return np.broadcast_to(np.asarray(found, float), (self._rows,))

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        """Raises ValueError for some of the streams only: they share the sizes of their buckets."""
        if not rows_R.all():
            raise ValueError("streams of adaptive windows begin anew together")
        self._window = AdaptiveWindow(self._window.config)

    def direction(self, row: int) -> Direction:
        return "low" if np.atleast_1d(self._window.difference)[row] > 0 else "high"

    def state(self) -> dict[str, Any]:
        """Raises ValueError for several streams."""
        if self._rows != 1:
            raise ValueError(f"the state of one stream is kept, not of {self._rows}")
        return self._window.state()

    def load(self, state: dict[str, Any]) -> None:
        self._window.load(state)


class AdaptiveWindow:
    """The buckets: row i holds sums, and sums of squared deviations, of 2^i values each, oldest first.

    Values are numbers, or arrays with one of each of several streams, whose buckets have the same sizes.
    """

    def __init__(self, config: AdwinConfig) -> None:
        self.config = config
        self.difference: Any = 0.0
        """The older part's mean less the newer's, at the strongest cut."""
        self.rows: list[list[tuple[Any, Any]]] = [[]]
        self.width, self.ticks = 0, 0
        self.total: Any = 0.0
        self.deviations: Any = 0.0

    def add(self, value: Any) -> Any:
        """Take a value; the statistic where a cut is due to be looked for, -inf elsewhere."""
        self.ticks += 1
        self.rows[0].append((value, 0.0))
        if self.width:
            self.deviations += self.width * (value - self.total / self.width) ** 2 / (self.width + 1)
        self.width += 1
        self.total += value
        self._merge()
        if self.ticks % self.config.every or self.width <= self.config.grace:
            return -math.inf
        return self._statistic()

    def _merge(self) -> None:
        for level, row in enumerate(self.rows):
            if len(row) <= self.config.buckets:
                return
            (first, first_squares), (second, second_squares) = row[:2]
            size = 2**level
            between = size * (first / size - second / size) ** 2 / 2
            if level + 1 == len(self.rows):
                self.rows.append([])
            self.rows[level + 1].append((first + second, first_squares + second_squares + between))
            del row[:2]

    def _statistic(self) -> Any:
        strengths, differences, n, total = [], [], 0, 0.0
        floor = math.log(2 * math.log(self.width))
        variance = self.deviations / self.width
        for level in reversed(range(len(self.rows))):
            for bucket_sum, _ in self.rows[level]:
                n += 2**level
                total += bucket_sum
                m = self.width - n
                if min(n, m) < self.config.shortest:
                    continue
                difference = total / n - (self.total - total) / m
                slack = self.config.shortest - 1
                strengths.append(_strength(abs(difference), 1 / (n - slack) + 1 / (m - slack), variance) - floor)
                differences.append(difference)
        if not strengths:
            return -math.inf
        strengths_CR, differences_CR = np.array(strengths), np.array(differences)
        strongest_R = strengths_CR.argmax(axis=0)
        self.difference = np.take_along_axis(differences_CR, strongest_R[None], axis=0)[0]
        return strengths_CR.max(axis=0)

    def state(self) -> dict[str, Any]:
        return {
            "rows": [[list(bucket) for bucket in row] for row in self.rows],
            "width": self.width,
            "ticks": self.ticks,
            "total": self.total,
            "deviations": self.deviations,
            "difference": float(self.difference),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.rows = [[(float(one), float(two)) for one, two in row] for row in state["rows"]]
        self.width, self.ticks = int(state["width"]), int(state["ticks"])
        self.total, self.deviations = float(state["total"]), float(state["deviations"])
        self.difference = float(state["difference"])


def _strength(difference: Any, reciprocal: float, variance: Any) -> Any:
    """The largest d with sqrt(2 r v d) + 2 r d / 3 < difference: a quadratic in sqrt(d)."""
    linear, quadratic = (2 * reciprocal * variance) ** 0.5, 2 * reciprocal / 3
    root = (-linear + (linear**2 + 4 * quadratic * difference) ** 0.5) / (2 * quadratic)
    return root**2
