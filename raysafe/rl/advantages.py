"""Generalised advantage estimation (Schulman et al. 2016) over chunks of episodes that lie one behind the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def gae(
    rewards_N: Floats, values_N: Floats, next_values_N: Floats, last_N: NDArray[np.bool_], *, gamma: float, lam: float
) -> Floats:
    """Advantages (N,): A_t = delta_t + gamma lam A_{t+1}, where delta_t = r_t + gamma V_{t+1} - V_t.

    next_values_N: 0 where the episode terminated. last_N: whether a step is its chunk's last, which nothing follows.
    """
    deltas = (rewards_N + gamma * next_values_N - values_N).tolist()
    going = (gamma * lam * ~last_N).tolist()
    advantage, found = 0.0, [0.0] * len(deltas)
    for step in range(len(deltas) - 1, -1, -1):
        advantage = deltas[step] + going[step] * advantage
        found[step] = advantage
    return np.array(found, dtype=np.float32)
