"""A detector: a chart with a limit, which is set from a stated average run length on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from raysafe.errors import ConfigError
from raysafe.monitoring.detectors.chart import Chart, ChartConfig, Direction, Floats
from raysafe.monitoring.detectors.kinds import chart_config
from raysafe.monitoring.detectors.run_length import LONGEST, dithered, limit_for, maxima

RUNS = {"mmd": 400}
"""Simulated streams; of the costlier charts fewer. The run length of a limit is then known to 3% (1,000) or 5%."""

NEAR = 2e-9


class Detection(NamedTuple):
    """A stream departed from its reference."""

    statistic: float
    limit: float
    direction: Direction
    values: int
    """Taken since the detector began, or since its last detection."""


class Detector:
    """Watches one stream. After a detection it begins anew, against the same reference."""

    def __init__(self, config: ChartConfig, reference_N: Floats, limit: float) -> None:
        self.config, self.limit = config, limit
        self._reference_N = reference_N
        self._chart: Chart = config.chart(reference_N[None])
        self._values = self._moment = 0

    def update(self, value: float | str | Floats) -> Detection | None:
        """Take the next value: a number, a row of them, or a category, as the calibration data were.

        Raises ValueError for one that isn't finite.
        """
        row = self.config.coded(value)
        if not np.isfinite(row).all():
            raise ValueError(f"a detector takes finite values, got {value}")
        self._values += 1
        self._moment += 1
        statistic = float(self._chart.step(row[None])[0])
        # most statistics are under the limit however they are dithered
        if statistic + NEAR * (1 + abs(statistic)) <= self.limit or not dithered(statistic, self._moment) > self.limit:
            return None
        found = Detection(statistic, self.limit, self._chart.direction(0), self._values)
        self._chart.reset(np.ones(1, bool))
        self._values = 0
        return found

    def state(self) -> dict[str, Any]:
        """All that `restored` goes on from, as JSON has it."""
        return {
            "config": self.config.model_dump(mode="json"),
            "limit": self.limit,
            "reference": self._reference_N.tolist(),
            "values": self._values,
            "moment": self._moment,
            "chart": self._chart.state(),
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Detector:
        """The detector of a state, which goes on as the one that was saved would have."""
        detector = cls(chart_config(state["config"]), np.array(state["reference"], float), float(state["limit"]))
        detector._values, detector._moment = int(state["values"]), int(state["moment"])
        detector._chart.load(state["chart"])
        return detector


def calibrate(
    config: ChartConfig,
    data_N: Floats | Sequence[str],
    *,
    average_run_length: float = 500.0,
    block: int = 1,
    seed: int = 0,
) -> Detector:
    """The detector that gives a false alarm once in `average_run_length` values of a stream like the calibration data.

    data_N: values in their order, (N,) or (N, D), or for `psi` the names of categories. block: how many values in a row
    depend on one another; they are resampled in blocks of this length. Limits of charts of single values come of ranks:
    the m-th largest of n statistics is passed once in n / (m - 1) values, on average over calibration data, whatever
    their distribution. All other limits are simulated. Assumed is that the stream is stationary, and that the data show
    all that it does.

    Raises ConfigError where the data are too few for that run length, or not finite.
    """
    config, data_N = config.fitted(data_N)
    _check(config, data_N, average_run_length, block)
    rng = np.random.default_rng(seed)
    reference_N = _reference(config, data_N, rng)
    if config.ranked:
        chart = config.chart(reference_N[None])
        statistics_N = np.array([chart.step(value[None])[0] for value in data_N])
        statistics_N = np.sort(dithered(statistics_N, np.arange(len(data_N))))[::-1]
        # the first value's rank is 0 here; between two ranks the limit lies between their statistics
        limit = float(np.interp(len(data_N) / average_run_length, np.arange(len(data_N)), statistics_N))
    else:
        length = round(LONGEST * average_run_length)
        runs = RUNS.get(config.kind, 1000)
        limit = limit_for(maxima(config, data_N, reference_N, runs, length, block, rng), average_run_length)
    return Detector(config, reference_N, limit)


def _reference(config: ChartConfig, data_N: Floats, rng: np.random.Generator) -> Floats:
    """The values that a chart is given: all, or where it takes so many only, some drawn at random."""
    size = config.size(len(data_N))
    return data_N[np.sort(rng.choice(len(data_N), size, replace=False))] if size < len(data_N) else data_N


def _check(config: ChartConfig, data_N: Floats, average_run_length: float, block: int) -> None:
    if not average_run_length >= 20:
        raise ConfigError(f"average_run_length must be 20 or more, got {average_run_length:g}")
    if data_N.ndim not in (1, 2) or (data_N.ndim == 2 and config.kind != "mmd"):
        raise ConfigError(f"a detector of the kind {config.kind} takes single numbers, got an array {data_N.shape}")
    if not np.isfinite(data_N).all():
        raise ConfigError("calibration data hold values that are not finite: leave them out")
    needed = config.needed(average_run_length)
    if len(data_N) < needed:
        raise ConfigError(
            f"a detector of the kind {config.kind} needs {needed:,} calibration values for an average run length of "
            f"{average_run_length:g}, got {len(data_N):,}: collect more, or state a shorter run length"
        )
    if not 1 <= block <= len(data_N) // 10:
        raise ConfigError(
            f"block must lie between 1 and a tenth of the {len(data_N):,} calibration values, got {block}"
        )
