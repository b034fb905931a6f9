"""The robust z-score of a value among those before it: its distance from their median, in 1.4826 of their median
absolute deviation (Iglewicz and Hoaglin 1993). It follows slow change and finds what stands out of it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.monitoring.detectors.chart import Direction, Floats, SidedConfig, sided

NORMAL = 1.4826
"""The standard deviation of a normal distribution is so many of its median absolute deviations."""


class RobustZConfig(SidedConfig):
    """`kind: robust_z`: single values that stand out of the last `window`."""

    ranked: ClassVar[bool] = True

    kind: Literal["robust_z"] = "robust_z"
    window: int = Field(default=100, ge=10, le=10_000, description="Values before it that a value is compared with.")

    def needed(self, average_run_length: float) -> int:
        return int(5 * average_run_length) + self.window

    def chart(self, references_RN: Floats) -> RobustZChart:
        """The window begins with the reference's last values; a window's spread is taken as 1/20 of its at least."""
        middle_R1 = np.median(references_RN, axis=1, keepdims=True)
        spread_R = np.median(np.abs(references_RN - middle_R1), axis=1)
        return RobustZChart(self, references_RN[:, -self.window :], np.where(spread_R > 0, spread_R, 1.0) / 20)


class RobustZChart:
    """The last values of R streams."""

    def __init__(self, config: RobustZConfig, first_RW: Floats, least_R: Floats) -> None:
        self._config, self._least_R = config, least_R
        self._ring_RW = first_RW.copy()
        self._count_R = np.zeros(len(least_R), np.int64)
        self._z_R = np.zeros(len(least_R))

    def step(self, values_R: Floats) -> Floats:
        middle_R = np.median(self._ring_RW, axis=1)
        spread_R = np.median(np.abs(self._ring_RW - middle_R[:, None]), axis=1)
        self._z_R = (values_R - middle_R) / (NORMAL * np.maximum(spread_R, self._least_R))
        self._ring_RW[np.arange(len(values_R)), self._count_R % self._config.window] = values_R
        self._count_R += 1
        return sided(self._z_R, -self._z_R, self._config.side)

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        """The window stays: one value that stands out moves its median little."""

    def direction(self, row: int) -> Direction:
        return "high" if self._z_R[row] >= 0 else "low"

    def state(self) -> dict[str, Any]:
        return {"ring": self._ring_RW.tolist(), "count": self._count_R.tolist(), "z": self._z_R.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        self._ring_RW, self._z_R = np.array(state["ring"], float), np.array(state["z"], float)
        self._count_R = np.array(state["count"], np.int64)
