"""The maximum mean discrepancy between the newest values and the reference, squared and unbiased, in a sliding window.

Gretton et al. 2012, equation 3, with a Gaussian kernel. A new value costs a kernel with each of window and reference.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.generalization.shift_statistics import median_gamma, pairs_mean, squared_distances
from raysafe.monitoring.detectors.chart import ComparingConfig, Direction, Floats, windows_filled

_BANDWIDTH_FROM = 100


class MmdConfig(ComparingConfig):
    """`kind: mmd`: any change of the distribution of a number, or of several at once."""

    kind: Literal["mmd"] = "mmd"
    window: int = Field(default=50, ge=10, le=2000, description="The newest values, which are compared.")
    reference: int = Field(default=200, ge=20, le=5000, description="Calibration values that they are compared with.")

    def chart(self, references_RN: Floats) -> MmdChart:
        if references_RN.ndim == 2:
            references_RN = references_RN[:, :, None]
        return MmdChart(self, references_RN)


class MmdChart:
    """The windows of R streams, their pairs' kernels summed, and each value's mean kernel with the reference."""

    def __init__(self, config: MmdConfig, references_RMD: Floats) -> None:
        self._config, self._references_RMD = config, references_RMD
        rows, _, width = references_RMD.shape
        self._gamma_R = np.array([median_gamma(row) for row in references_RMD[:, :_BANDWIDTH_FROM]])
        self._own_R = np.array([self._within(row) for row in range(rows)])
        self._ring_RWD = np.zeros((rows, config.window, width))
        self._cross_RW = np.zeros((rows, config.window))
        self._pairs_R = np.zeros(rows)
        self._count_R = np.zeros(rows, np.int64)

    def step(self, values_R: Floats) -> Floats:
        values_RD = values_R.reshape(len(values_R), -1)
        rows, slots_R = np.arange(len(values_RD)), self._count_R % self._config.window
        there_RW = np.arange(self._config.window) < self._count_R[:, None]
        there_RW[rows, slots_R] = False
        full_R = self._count_R >= self._config.window
        old_RD = self._ring_RWD[rows, slots_R]
        self._pairs_R -= full_R * (self._kernel(old_RD, self._ring_RWD) * there_RW).sum(axis=1)
        self._pairs_R += (self._kernel(values_RD, self._ring_RWD) * there_RW).sum(axis=1)
        self._ring_RWD[rows, slots_R] = values_RD
        self._cross_RW[rows, slots_R] = self._kernel(values_RD, self._references_RMD).mean(axis=1)
        self._count_R += 1
        width = self._config.window
        squared_R = self._own_R + 2 * self._pairs_R / (width * (width - 1)) - 2 * self._cross_RW.mean(axis=1)
        return windows_filled(self._count_R, width, squared_R)

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        self._count_R[rows_R] = 0
        self._pairs_R[rows_R] = 0.0

    def direction(self, row: int) -> Direction:
        return "change"

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, f"_{name}").tolist() for name in ("ring_RWD", "cross_RW", "pairs_R", "count_R")}

    def load(self, state: dict[str, Any]) -> None:
        for name, values in state.items():
            setattr(self, f"_{name}", np.array(values, np.int64 if name == "count_R" else float))

    def _kernel(self, values_RD: Floats, others_RKD: Floats) -> Floats:
        squared_RK = ((others_RKD - values_RD[:, None, :]) ** 2).sum(axis=2)
        return np.exp(-self._gamma_R[:, None] * squared_RK)

    def _within(self, row: int) -> float:
        """The mean kernel of a reference's pairs."""
        values_MD = self._references_RMD[row]
        return pairs_mean(np.exp(-self._gamma_R[row] * squared_distances(values_MD, values_MD)))
