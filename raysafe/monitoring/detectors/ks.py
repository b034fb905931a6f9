"""The two-sample Kolmogorov-Smirnov distance between the newest values and the reference, in a sliding window.

sqrt(w m / (w + m)) sup |F_window - F_reference|. Windows overlap, so tables of the test don't give its run length.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.generalization.shift_statistics import ks_scale, ks_sides
from raysafe.monitoring.detectors.chart import ComparingConfig, Direction, Floats


class KsConfig(ComparingConfig):
    """`kind: ks`: any change of the distribution of a number."""

    kind: Literal["ks"] = "ks"
    every: int = Field(default=5, ge=1, description="Compare at each such number of values.")

    def chart(self, references_RN: Floats) -> KsChart:
        return KsChart(self, np.sort(references_RN, axis=1))


class KsChart:
    """The windows of R streams, as the shares of the reference below, and at or below, each of their values."""

    def __init__(self, config: KsConfig, references_RM: Floats) -> None:
        self._config, self._references_RM = config, references_RM
        rows, size = references_RM.shape
        self._scale = ks_scale(config.window, size)
        self._below_RW, self._upto_RW = np.zeros((rows, config.window)), np.zeros((rows, config.window))
        self._count_R = np.zeros(rows, np.int64)
        self._high_R, self._low_R = np.full(rows, -np.inf), np.full(rows, -np.inf)

    def step(self, values_R: Floats) -> Floats:
        rows, slots_R = np.arange(len(values_R)), self._count_R % self._config.window
        self._below_RW[rows, slots_R] = (self._references_RM < values_R[:, None]).mean(axis=1)
        self._upto_RW[rows, slots_R] = (self._references_RM <= values_R[:, None]).mean(axis=1)
        self._count_R += 1
        statistic_R = np.full(len(values_R), -np.inf)
        due_R = (self._count_R >= self._config.window) & (self._count_R % self._config.every == 0)
        if due_R.any():
            self._high_R[due_R], self._low_R[due_R] = ks_sides(self._below_RW[due_R], self._upto_RW[due_R])
            statistic_R[due_R] = self._scale * np.maximum(self._high_R, self._low_R)[due_R]
        return statistic_R

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        self._count_R[rows_R] = 0

    def direction(self, row: int) -> Direction:
        return "high" if self._high_R[row] >= self._low_R[row] else "low"

    def state(self) -> dict[str, Any]:
        names = ("below_RW", "upto_RW", "count_R", "high_R", "low_R")
        return {name: np.nan_to_num(getattr(self, f"_{name}"), neginf=-1.0).tolist() for name in names}

    def load(self, state: dict[str, Any]) -> None:
        for name, values in state.items():
            setattr(self, f"_{name}", np.array(values, np.int64 if name == "count_R" else float))
