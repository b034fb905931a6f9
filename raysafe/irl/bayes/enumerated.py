"""The posterior over a grid of a few reward weights, enumerated: what samplers are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from raysafe.errors import DataError
from raysafe.irl.bayes.target import Target
from raysafe.rl.mdp import Floats

MOST_POINTS = 5_000_000


@dataclass(frozen=True, eq=False)
class Enumerated:
    """The same axis for each weight; probabilities of its cells, (G, ..., G), G points along each of F axes."""

    axis_G: Floats
    probabilities: Floats

    def shares(self, draws_NF: Floats) -> Floats:
        """The shares of draws in the cells, and last of those outside of all cells: (G^F + 1,)."""
        step, points = self.axis_G[1] - self.axis_G[0], len(self.axis_G)
        places_NF = np.rint((draws_NF - self.axis_G[0]) / step).astype(np.int64)
        inside_N = ((places_NF >= 0) & (places_NF < points)).all(axis=1)
        flat_N = np.ravel_multi_index(tuple(places_NF[inside_N].T), self.probabilities.shape)
        cells = np.bincount(flat_N, minlength=self.probabilities.size)
        return np.append(cells, (~inside_N).sum()) / len(draws_NF)

    def total_variation(self, draws_NF: Floats) -> float:
        """Half the sum of absolute differences between the draws' shares of cells and the probabilities."""
        return float(0.5 * np.abs(self.shares(draws_NF) - np.append(self.probabilities, 0.0)).sum())

    def mean_F(self) -> Floats:
        dimensions = self.probabilities.ndim
        return np.array(
            [
                self.probabilities.sum(axis=tuple(k for k in range(dimensions) if k != which)) @ self.axis_G
                for which in range(dimensions)
            ]
        )


def enumerate_posterior(target: Target, axis_G: Floats, within: int = 1) -> Enumerated:
    """Posterior probabilities of the grid's points; with `within` > 1 of the cells around them, each being the sum
    over within^F points that are spread evenly inside it, which is what continuous draws are compared with.

    Raises DataError where that is more than five million points.
    """
    step = axis_G[1] - axis_G[0]
    offsets = step * ((np.arange(within) + 0.5) / within - 0.5)
    fine_P = (axis_G[:, None] + offsets).ravel()
    count = len(fine_P) ** target.dimensions
    if count > MOST_POINTS:
        raise DataError(f"{count:,} points can't be enumerated, {MOST_POINTS:,} at most: take fewer weights or points")
    densities = np.empty((len(fine_P),) * target.dimensions)
    piece: Any = None
    for place in np.ndindex(densities.shape):
        densities[place], piece = target.log_density(fine_P[list(place)], piece)
    probabilities = np.exp(densities - np.asarray(logsumexp(densities)))
    for which in range(target.dimensions):
        shape = probabilities.shape
        probabilities = probabilities.reshape(*shape[:which], len(axis_G), within, *shape[which + 1 :]).sum(which + 1)
    return Enumerated(axis_G, probabilities)
