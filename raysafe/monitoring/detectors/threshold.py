"""A limit on single values (Shewhart 1931), read off the ranks of the calibration values: any distribution will do."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from raysafe.monitoring.detectors.chart import Direction, Floats, SidedConfig, sided


class ThresholdConfig(SidedConfig):
    """`kind: threshold`: single values that are far off, by their distance from the reference's median."""

    ranked: ClassVar[bool] = True

    kind: Literal["threshold"] = "threshold"

    def needed(self, average_run_length: float) -> int:
        # the limit is the sixth largest value, or a later one: of the largest few, each is an accident
        return int(5 * average_run_length)

    def chart(self, references_RN: Floats) -> ThresholdChart:
        return ThresholdChart(self, np.median(references_RN, axis=1))


class ThresholdChart:
    """The distances of R streams' newest values."""

    def __init__(self, config: ThresholdConfig, median_R: Floats) -> None:
        self._config, self._median_R = config, median_R
        self._distance_R = np.zeros(len(median_R))

    def step(self, values_R: Floats) -> Floats:
        self._distance_R = values_R - self._median_R
        return sided(self._distance_R, -self._distance_R, self._config.side)

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        """Nothing is remembered."""

    def direction(self, row: int) -> Direction:
        return "high" if self._distance_R[row] >= 0 else "low"

    def state(self) -> dict[str, Any]:
        return {"distance": self._distance_R.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        self._distance_R = np.array(state["distance"], float)
