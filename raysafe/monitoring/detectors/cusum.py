"""The tabular cumulative sum chart of a mean (Page 1954; Montgomery, Introduction to Statistical Quality Control, 9.1).

C+ = max(0, C+ + z - k) and C- = max(0, C- - z - k), where z is the value's distance from the reference's mean in its
standard deviations.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.monitoring.detectors.chart import Direction, Floats, SidedConfig, mean_and_deviation, sided


class CusumConfig(SidedConfig):
    """`kind: cusum`: small shifts of the mean that last."""

    kind: Literal["cusum"] = "cusum"
    allowance: float = Field(
        default=0.5, gt=0, description="k, in standard deviations: half the shift that is to be found soonest."
    )

    def needed(self, average_run_length: float) -> int:
        return 200

    def chart(self, references_RN: Floats) -> CusumChart:
        return CusumChart(self, *mean_and_deviation(references_RN))


class CusumChart:
    """C+ and C- of R streams."""

    def __init__(self, config: CusumConfig, mean_R: Floats, deviation_R: Floats) -> None:
        self._config, self._mean_R, self._deviation_R = config, mean_R, deviation_R
        self._high_R, self._low_R = np.zeros(len(mean_R)), np.zeros(len(mean_R))

    def step(self, values_R: Floats) -> Floats:
        z_R = (values_R - self._mean_R) / self._deviation_R
        self._high_R = np.maximum(0.0, self._high_R + z_R - self._config.allowance)
        self._low_R = np.maximum(0.0, self._low_R - z_R - self._config.allowance)
        return sided(self._high_R, self._low_R, self._config.side)

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        self._high_R[rows_R] = self._low_R[rows_R] = 0.0

    def direction(self, row: int) -> Direction:
        return "high" if self._high_R[row] >= self._low_R[row] else "low"

    def state(self) -> dict[str, Any]:
        return {"high": self._high_R.tolist(), "low": self._low_R.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        self._high_R, self._low_R = np.array(state["high"], float), np.array(state["low"], float)
