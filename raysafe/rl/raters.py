"""Who compares fragments: a synthetic rater that knows the true return and errs as people do, or people on a page.

The synthetic one has the faults of B-Pref (Lee et al. 2021): answers drawn by Boltzmann's rule instead of the better
one, a share of slips, ties where the difference is too small to see, and a memory that fades.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.config import Config
from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError

Pair = tuple[Trajectory, Trajectory]


class SyntheticRater(Config):
    """Prefers the fragment with the higher true return, more or less."""

    kind: Literal["synthetic"] = "synthetic"
    rationality: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Beta: prefers a with probability sigmoid(beta (return a - return b)); none for always the better.",
    )
    error_rate: float = Field(default=0.0, ge=0, le=0.5, description="Share of answers that are turned round.")
    tie_within: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Returns that differ by this or less are called equal."
    )
    discount: float = Field(
        default=1.0, gt=0, le=1, description="Weight of each step against the one after it: 1 remembers all equally."
    )

    def compare(self, pairs: Sequence[Pair], draw: np.random.Generator) -> list[Comparison]:
        """One comparison a pair, in order; raises DataError for a fragment whose true rewards aren't known."""
        a_N, b_N = (np.array([self.return_of(pair[side]) for pair in pairs]) for side in (0, 1))
        preferences_N = self.prefer(a_N, b_N, draw)
        return [
            Comparison(a, b, float(preference), "synthetic")
            for (a, b), preference in zip(pairs, preferences_N, strict=True)
        ]

    def return_of(self, fragment: Trajectory) -> float:
        """The return as this rater remembers it."""
        if fragment.rewards_T is None:
            raise DataError("a synthetic rater needs the true rewards, and a fragment has none: ask people")
        steps = len(fragment)
        return float(fragment.rewards_T @ self.discount ** np.arange(steps - 1, -1, -1))

    def prefer(
        self, a_N: NDArray[np.float64], b_N: NDArray[np.float64], draw: np.random.Generator
    ) -> NDArray[np.float64]:
        """1 for a, 0 for b, 0.5 for a tie, from the returns of both."""
        from scipy.special import expit

        gap_N = a_N - b_N
        if self.rationality is None:
            a_first_N = np.where(gap_N == 0, draw.random(len(gap_N)) < 0.5, gap_N > 0)
        else:
            a_first_N = draw.random(len(gap_N)) < expit(self.rationality * gap_N)
        a_first_N = a_first_N ^ (draw.random(len(gap_N)) < self.error_rate)
        ties_N = (np.abs(gap_N) <= self.tie_within) & (self.tie_within > 0)
        return np.where(ties_N, 0.5, a_first_N.astype(np.float64))
