"""Which rows a step sees, which rank gets them, and how they fall into micro-batches.

A step's rows depend on seed, epoch and position only, never on the number of ranks: N ranks see together what one
rank would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=2)
def epoch_order(rows: int, *, seed: int, epoch: int) -> np.ndarray:
    """A read-only permutation of 0 … rows - 1, the same for the same seed and epoch."""
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    order.setflags(write=False)
    return order


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Steps that cover every row once; the last one may be smaller."""
    return -(-rows // batch_size)


def step_rows(rows: int, batch_size: int, *, seed: int, step: int) -> np.ndarray:
    """Row numbers of the global batch of a step, counted from 0 over all epochs."""
    epoch, position = divmod(step, steps_per_epoch(rows, batch_size))
    return epoch_order(rows, seed=seed, epoch=epoch)[position * batch_size : (position + 1) * batch_size]


def deal(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Positions for each rank, so that tokens are even: longest first, each to the rank with the fewest tokens."""
    hands: list[list[int]] = [[] for _ in range(ranks)]
    totals = [0] * ranks
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(ranks), key=lambda r: (totals[r], len(hands[r]), r))
        hands[rank].append(position)
        totals[rank] += lengths[position]
    return hands


def micro_batches(lengths: Sequence[int], budget: int, *, padded: bool) -> list[list[int]]:
    """Groups of positions whose cost stays within `budget` tokens (a single longer row stands alone).

    The cost is the sum of lengths, or count times the longest where rows are padded. First fit over decreasing lengths.
    """
    groups: list[list[int]] = []
    costs: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for index, group in enumerate(groups):
            cost = lengths[group[0]] * (len(group) + 1) if padded else costs[index] + lengths[position]
            if cost <= budget:
                group.append(position)
                costs[index] = cost
                break
        else:
            groups.append([position])
            costs.append(lengths[position])
    return groups
