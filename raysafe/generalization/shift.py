"""Has the data shifted? Tests of two samples on features and on scores, and how often each is right and wrong.

Kernels, distances and scores are computed once for a pool of examples; each repetition only takes places in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstwo

from raysafe.generalization.corrections import Correction, bonferroni, holm
from raysafe.generalization.shift_statistics import Floats, ks_scale
from raysafe.generalization.two_sample import (
    Prepared,
    TwoSampleTest,
    permutation_test,
    prepare_energy_distance,
    prepare_ks,
    prepare_mmd,
    prepare_psi,
    prepare_ranks,
    splits,
)

KINDS = ("mmd", "energy_distance", "ks", "psi")
"""Tests of features; besides these, each score is tested by its ranks."""
Places = NDArray[np.intp]
Draw = Callable[[np.random.Generator], tuple[Places, Places]]
"""The places of a reference and of a new sample in the pool."""


@dataclass(frozen=True)
class Pool:
    """Examples as tests see them: features or probabilities, and a score each by name."""

    values_ND: Floats
    scores: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.values_ND)


class ShiftTests:
    """All tests on one pool. correction: of the Kolmogorov-Smirnov tests of single features."""

    def __init__(self, pool: Pool, *, permutations: int, correction: Correction = "westfall-young") -> None:
        self.permutations, self.correction = permutations, correction
        self._prepared: dict[str, Prepared] = {
            "mmd": prepare_mmd(pool.values_ND),
            "energy_distance": prepare_energy_distance(pool.values_ND),
            "ks": prepare_ks(pool.values_ND),
            "psi": prepare_psi(pool.values_ND),
        }
        self._prepared |= {name: prepare_ranks(scores_N) for name, scores_N in pool.scores.items()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._prepared)

    def test(self, name: str, reference: Places, new: Places, rng: np.random.Generator) -> TwoSampleTest:
        """Whether the examples at `new` differ from those at `reference`; by scores, whether they are stranger."""
        statistic = self._prepared[name](np.concatenate([reference, new]))
        if name == "ks" and self.correction != "westfall-young":
            observed_D = statistic(splits(len(reference), len(new), 19, rng)[:1])[0]
            adjust = holm if self.correction == "holm" else bonferroni
            adjusted_D = adjust(ks_p_values(observed_D, len(reference), len(new)))
            return TwoSampleTest(float(observed_D.max()), float(adjusted_D.min()), observed_D, adjusted_D)
        return permutation_test(statistic, len(reference), len(new), permutations=self.permutations, rng=rng)

    def rates(
        self,
        draw: Draw,
        *,
        repetitions: int,
        alpha: float,
        rng: np.random.Generator,
        done: Callable[[int], None] = lambda _: None,
    ) -> dict[str, float]:
        """How often each test finds a shift at `alpha` between samples that are drawn anew in each repetition.

        That is its false-positive rate where both are of one distribution, else its power. done: told the repetitions.
        """
        found = dict.fromkeys(self.names, 0)
        for repetition in range(repetitions):
            reference, new = draw(rng)
            for name in self.names:
                found[name] += self.test(name, reference, new, rng).p_value <= alpha
            done(repetition + 1)
        return {name: count / repetitions for name, count in found.items()}


def null_splits(places: Places, size: int) -> Draw:
    """Two samples of `size` without a common example, both drawn from `places`."""

    def draw(rng: np.random.Generator) -> tuple[Places, Places]:
        chosen = rng.choice(places, 2 * size, replace=False)
        return chosen[:size], chosen[size:]

    return draw


def two_sources(reference: Places, new: Places, size: int) -> Draw:
    """A sample of each, drawn without replacement."""

    def draw(rng: np.random.Generator) -> tuple[Places, Places]:
        return rng.choice(reference, size, replace=False), rng.choice(new, size, replace=False)

    return draw


def ks_p_values(scaled_D: Floats, reference: int, new: int) -> Floats:
    """Of scaled Kolmogorov-Smirnov distances, as of one sample of n m / (n + m) values; conservative with ties."""
    scale = ks_scale(reference, new)
    distinct, places = np.unique(scaled_D, return_inverse=True)
    return kstwo.sf(distinct / scale, round(scale**2))[places]
