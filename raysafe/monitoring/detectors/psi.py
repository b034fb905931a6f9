"""The population stability index of the newest values against the reference, over bins.

Bins are the reference's quantiles, or its values where there are no more than bins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.errors import ConfigError
from raysafe.generalization.shift_statistics import bin_edges, open_bins, psi
from raysafe.monitoring.detectors.chart import ComparingConfig, Direction, Floats, windows_filled


class PsiConfig(ComparingConfig):
    """`kind: psi`: change of the shares of categories, or of a number's distribution over bins."""

    kind: Literal["psi"] = "psi"
    window: int = Field(default=100, ge=20, le=10_000, description="The newest values, which are compared.")
    reference: int = Field(default=500, ge=50, le=20_000, description="Calibration values that they are compared with.")
    bins: int = Field(default=10, ge=2, le=100, description="Bins, or most categories.")
    categories: tuple[str, ...] | None = Field(
        default=None,
        description="Names that are counted, all others together; calibration sets them to the commonest.",
    )

    def fitted(self, values: Floats | Sequence[str]) -> tuple[Self, Floats]:
        """Of names, the commonest are the categories, one fewer than bins: what is rarer or new is another."""
        data_N = np.asarray(values)
        if data_N.dtype.kind not in "UTO":
            if self.categories is not None:
                raise ConfigError("a detector with categories takes names, got numbers")
            return super().fitted(data_N)
        names = tuple(name for name, _ in Counter(data_N.tolist()).most_common(self.bins - 1))
        config = self if self.categories is not None else self.model_copy(update={"categories": names})
        return config, np.array([config.coded(name) for name in data_N.tolist()])

    def coded(self, value: float | str | Floats) -> Floats:
        """A category's place among the names, or the one after them."""
        if self.categories is None:
            return super().coded(value)
        if not isinstance(value, str):
            raise ValueError(f"a detector of categories takes names, got {value!r}")
        return np.array(float(self.categories.index(value) if value in self.categories else len(self.categories)))

    def chart(self, references_RN: Floats) -> PsiChart:
        return PsiChart(self, references_RN)


class PsiChart:
    """The windows of R streams, as the bins of their values."""

    def __init__(self, config: PsiConfig, references_RM: Floats) -> None:
        self._config = config
        self._edges_RE = np.stack([_edges(row, config) for row in references_RM])
        rows, edges = self._edges_RE.shape
        self._reference_RB = np.zeros((rows, edges + 1))
        for row, values_M in enumerate(references_RM):
            found = np.searchsorted(self._edges_RE[row], values_M, side="left")
            self._reference_RB[row] = np.bincount(found, minlength=edges + 1)
        self._open_RB = open_bins(self._edges_RE)
        self._ring_RW = np.zeros((rows, config.window), np.int64)
        self._counts_RB = np.zeros((rows, edges + 1))
        self._count_R = np.zeros(rows, np.int64)

    def step(self, values_R: Floats) -> Floats:
        rows, slots_R = np.arange(len(values_R)), self._count_R % self._config.window
        full_R = self._count_R >= self._config.window
        self._counts_RB[rows, self._ring_RW[rows, slots_R]] -= full_R
        bins_R = (values_R[:, None] > self._edges_RE).sum(axis=1)
        self._ring_RW[rows, slots_R] = bins_R
        self._counts_RB[rows, bins_R] += 1
        self._count_R += 1
        index_R = psi(self._counts_RB, self._reference_RB, self._open_RB)
        return windows_filled(self._count_R, self._config.window, index_R)

    def reset(self, rows_R: NDArray[np.bool_]) -> None:
        self._count_R[rows_R] = 0
        self._counts_RB[rows_R] = 0.0

    def direction(self, row: int) -> Direction:
        return "change"

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, f"_{name}").tolist() for name in ("ring_RW", "counts_RB", "count_R")}

    def load(self, state: dict[str, Any]) -> None:
        self._ring_RW, self._count_R = np.array(state["ring_RW"], np.int64), np.array(state["count_R"], np.int64)
        self._counts_RB = np.array(state["counts_RB"], float)


def _edges(values_M: Floats, config: PsiConfig) -> Floats:
    """The upper edges of all bins but the last, (bins - 1,), or between places of categories."""
    if config.categories is not None:
        return np.arange(0.5, len(config.categories))
    return bin_edges(values_M, config.bins)
