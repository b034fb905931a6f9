"""Average run lengths: how long a chart goes without an alarm on streams in which nothing changes.

What a reference gets wrong by chance counts as it will in use (Jensen et al. 2006).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysafe.monitoring.detectors.chart import ChartConfig, Floats

GOLDEN = 0.6180339887498949
LONGEST = 5
"""Simulated streams are so many run lengths long; what goes on without an alarm is counted as such."""


def resampled(data_N: Floats, rows: int, length: int, block: int, rng: np.random.Generator) -> Floats:
    """`rows` streams of `length` values: blocks of values in a row, from places drawn at random (Kuensch 1989)."""
    starts = rng.integers(0, len(data_N) - block + 1, (rows, -(-length // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(rows, -1)
    return data_N[places[:, :length]]


def maxima(
    config: ChartConfig,
    data_N: Floats,
    reference_M: Floats,
    runs: int,
    length: int,
    block: int,
    rng: np.random.Generator,
) -> Floats:
    """The largest statistic so far, at each of `length` moments of `runs` streams, (runs, length).

    A reference of only some of the data is the one that will be used: the others show what it gets wrong by chance.
    One of all data is drawn anew for each stream, so that its errors count on average.
    """
    if len(reference_M) < len(data_N):
        references_RM = np.broadcast_to(reference_M, (runs, *reference_M.shape))
    else:
        references_RM = resampled(data_N, runs, len(data_N), block, rng)
    chart = config.chart(references_RM)
    values_RT = resampled(data_N, runs, length, block, rng)
    first_R = rng.integers(0, 1 << 20, runs)
    found_RT = np.empty((runs, length))
    for moment in range(length):
        found_RT[:, moment] = dithered(chart.step(values_RT[:, moment]), first_R + moment)
    return np.maximum.accumulate(found_RT, axis=1)


def dithered(statistic_R: Floats | float, moment_R: NDArray[np.int64] | int) -> Floats:
    """The statistic raised by up to a billionth of it, evenly over moments (by multiples of the golden ratio).

    Of values that repeat, such as counts, a limit then parts those that are equal: any run length can be met, by an
    alarm at some of them (a randomised test).
    """
    size_R = np.where(np.isfinite(statistic_R), np.maximum(np.abs(statistic_R), 1e-9), 1.0)
    return statistic_R + 1e-9 * size_R * (moment_R * GOLDEN % 1.0)


def average_run_length(maxima_RT: Floats, limit: float) -> float:
    """Values taken for each alarm: the mean run length, or its estimate where some runs were cut off."""
    over_RT = maxima_RT > limit
    ended_R = over_RT.any(axis=1)
    lengths_R = np.where(ended_R, over_RT.argmax(axis=1) + 1, maxima_RT.shape[1])
    return float(lengths_R.sum() / ended_R.sum()) if ended_R.any() else float("inf")


def limit_for(maxima_RT: Floats, wanted: float) -> float:
    """The lowest limit whose average run length is `wanted` or more; it is one of the statistics that were seen."""
    candidates = np.unique(maxima_RT[np.isfinite(maxima_RT)])
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if average_run_length(maxima_RT, candidates[middle]) >= wanted:
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])
