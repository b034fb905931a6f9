"""The exponentially weighted moving average chart of a mean (Roberts 1959; Lucas and Saccucci 1990).

w = lambda z + (1 - lambda) w from 0, in units of its own standard deviation in the long run, which is
sqrt(lambda / (2 - lambda)).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.monitoring.detectors.chart import Direction, Floats, SidedConfig, mean_and_deviation, sided


class EwmaConfig(SidedConfig):
    """`kind: ewma`: small to middling shifts of the mean; nearly indifferent to the values' distribution."""

    kind: Literal["ewma"] = "ewma"
    weight: float = Field(default=0.1, gt=0, le=1, description="lambda, of the newest value.")

    def needed(self, average_run_length: float) -> int:
        return 200

    def chart(self, references_RN: Floats) -> EwmaChart:
        return EwmaChart(self, *mean_and_deviation(references_RN))


class EwmaChart:
    """The averages of R streams."""

    def __init__(self, config: EwmaConfig, mean_R: Floats, deviation_R: Floats) -> None:
        self._config, self._mean_R = config, mean_R
        self._unit_R = deviation_R * math.sqrt(config.weight / (2 - config.weight))
        self._average_R = np.zeros(len(mean_R))

    def step(self, values_R: Floats) -> Floats:
        """The average is kept as its distance from the reference's mean."""
        weight = self._config.weight
        self._average_R = weight * (values_R - self._mean_R) + (1 - weight) * self._average_R
        z_R = self._average_R / self._unit_R
        return sided(z_R, -z_R, self._config.side)

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        self._average_R[rows_R] = 0.0

    def direction(self, row: int) -> Direction:
        return "high" if self._average_R[row] >= 0 else "low"

    def state(self) -> dict[str, Any]:
        return {"average": self._average_R.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        self._average_R = np.array(state["average"], float)
