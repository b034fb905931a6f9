"""Which points no other point is better than: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Mode = Literal["min", "max"]


def non_dominated(points: Sequence[Sequence[float]], modes: Sequence[Mode]) -> list[bool]:
    """For each point, whether no other is at least as good in every figure and better in one; equal points all stay.

    points: (N, F); modes: (F,), which way each figure is better. A point with a nan is never on the front.
    """
    if not points:
        return []
    signs_F = np.array([1.0 if mode == "max" else -1.0 for mode in modes])
    values_NF = np.asarray(points, dtype=np.float64) * signs_F
    known_N = np.logical_not(np.isnan(values_NF).any(axis=1))
    front = []
    for index in range(len(values_NF)):
        others_MF = values_NF[known_N]
        own_F = values_NF[index]
        beaten = (others_MF >= own_F).all(axis=1) & (others_MF > own_F).any(axis=1)
        front.append(bool(known_N[index] and not beaten.any()))
    return front
