"""RLlib's running mean and deviation of observations, for arrays of them: one update instead of one per row."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import tree
from numpy.typing import NDArray
from ray.rllib.connectors.env_to_module import mean_std_filter
from ray.rllib.utils.filter import RunningStat


class MeanStdFilter(mean_std_filter.MeanStdFilter):
    """The same statistics and the same state; single-agent observations only where arrays are asked for."""

    def normalise(self, obs_ND: NDArray[Any], *, update: bool = True) -> NDArray[np.float64]:
        """Rows less the mean, by the deviation, clipped; they count in both first, unless they are only judged."""
        if self._filters is None:
            self._init_new_filters()
        kept: Any = cast(Any, self._filters)[None]
        if update and self._update_stats:
            push_rows(kept.running_stats, obs_ND)
            push_rows(kept.buffer, obs_ND)
        (stats,) = tree.flatten(kept.running_stats)
        obs_ND = (obs_ND - stats.mean) / (stats.std + 1e-8)
        return obs_ND if kept.clip is None else np.clip(obs_ND, -kept.clip, kept.clip)


def push_rows(stats: RunningStat, rows_ND: NDArray[Any]) -> None:
    """What pushing row after row gives, at once (Chan, Golub and LeVeque 1979)."""
    count, rows_ND = len(rows_ND), np.asarray(rows_ND, dtype=np.float64)
    mean_D = rows_ND.mean(axis=0)
    apart_D = mean_D - stats.mean_array
    total = stats.num_pushes + count
    moved_D = apart_D * count / total
    squares_D = ((rows_ND - mean_D) ** 2).sum(axis=0) + apart_D**2 * stats.num_pushes * count / total
    stats.num_pushes, stats.num_pushes_delta = total, stats.num_pushes_delta + count
    stats.mean_array += moved_D
    stats.mean_delta_array += moved_D
    stats.sum_sq_diff_array += squares_D
    stats.sum_sq_diff_delta_array += squares_D
