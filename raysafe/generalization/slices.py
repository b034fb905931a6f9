"""Where is a model worst? A beam search for slices of the data with more errors than the rest, which is then confirmed.

The search (Slice Finder, Chung et al. 2019) sees one half of the cases and may look at thousands of slices; the few
best are tested on the other half by Fisher's exact test, with Holm's correction. On data without a bad slice one is
confirmed with probability alpha at most, however long the search was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from raysafe.errors import DataError
from raysafe.generalization.corrections import holm
from raysafe.generalization.shift_statistics import Floats, bin_edges

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of each case: a place among names."""

    name: str
    names: tuple[str, ...]
    place_N: NDArray[np.integer]

    @classmethod
    def of_numbers(cls, name: str, values_N: NDArray[np.floating], bins: int = 4) -> Attribute:
        """Over bins by the values' quantiles."""
        edges = np.unique(bin_edges(np.asarray(values_N, float), bins))
        words = [f"{edge:.3g}" for edge in edges]
        names = [f"at most {words[0]}", *(f"{a} to {b}" for a, b in pairwise(words))]
        return cls(name, (*names, f"over {words[-1]}"), np.searchsorted(edges, values_N, side="left"))


@dataclass(frozen=True)
class Slice:
    """The cases for which all conditions hold. Rates of errors are those of the half that confirms."""

    conditions: tuple[tuple[str, str], ...]
    n: int
    error: float
    error_elsewhere: float
    error_when_found: float
    """In the half that was searched: too high by the choice."""
    p_value: float
    """Fisher's, one-sided, adjusted for all candidates."""

    @property
    def text(self) -> str:
        return " and ".join(f"{name} {value}" for name, value in self.conditions)


def worst_slices(
    attributes: Sequence[Attribute],
    wrong_N: Mask,
    *,
    rng: np.random.Generator,
    depth: int = 2,
    beam: int = 20,
    candidates: int = 5,
    least: int = 20,
) -> list[Slice]:
    """The slices that the search found worst, by rising adjusted p-value.

    depth: most conditions of a slice. beam: slices of each depth that are extended. least: fewest cases in a slice, in
    the half that is searched. Raises DataError where a half has fewer than 2 * least cases.
    """
    if len(wrong_N) < 4 * least:
        raise DataError(
            f"a search for slices of {least} cases in either half needs {4 * least} cases or more, got {len(wrong_N)}"
        )
    searched_N = np.zeros(len(wrong_N), bool)
    searched_N[rng.permutation(len(wrong_N))[: len(wrong_N) // 2]] = True
    found = _search(attributes, wrong_N, searched_N, depth, beam, least)[:candidates]
    confirming = [(conditions, mask_N & ~searched_N) for conditions, mask_N, _ in found]
    p_values = holm(np.array([_fisher(mask_N, wrong_N, ~searched_N) for _, mask_N in confirming]))
    slices = [
        Slice(
            tuple((attributes[at].name, attributes[at].names[place]) for at, place in conditions),
            int(mask_N.sum()),
            _rate(wrong_N[mask_N]),
            _rate(wrong_N[~searched_N & ~mask_N]),
            _rate(wrong_N[found[number][1] & searched_N]),
            float(p_values[number]),
        )
        for number, (conditions, mask_N) in enumerate(confirming)
    ]
    return sorted(slices, key=lambda one: one.p_value)


Conditions = tuple[tuple[int, int], ...]
"""Of attribute and place, by rising attribute."""


def _search(
    attributes: Sequence[Attribute], wrong_N: Mask, searched_N: Mask, depth: int, beam: int, least: int
) -> list[tuple[Conditions, Mask, float]]:
    """Slices with more errors than the rest, worst first."""
    single = [
        ((at, place), attribute.place_N == place)
        for at, attribute in enumerate(attributes)
        for place in range(len(attribute.names))
    ]
    found: dict[bytes, tuple[Conditions, Mask, float]] = {}
    level: list[tuple[Conditions, Mask, float]] = [((), np.ones(len(wrong_N), bool), 0.0)]
    for _ in range(depth):
        grown: dict[bytes, tuple[Conditions, Mask, float]] = {}
        for conditions, mask_N, _ in level:
            for (at, place), other_N in single:
                if any(at == before for before, _ in conditions):
                    continue
                both_N = mask_N & other_N
                score = _excess(both_N & searched_N, wrong_N, searched_N, least)
                # the same cases by other conditions are the same slice
                if score > 0 and (key := both_N.tobytes()) not in found:
                    grown.setdefault(key, (tuple(sorted([*conditions, (at, place)])), both_N, score))
        level = sorted(grown.values(), key=lambda one: -one[2])[:beam]
        found |= grown
    return sorted(found.values(), key=lambda one: -one[2])


def _excess(mask_N: Mask, wrong_N: Mask, among_N: Mask, least: int) -> float:
    """How many standard errors the slice's rate of errors lies above that of the rest; 0 for one that is too small."""
    n, total = int(mask_N.sum()), int(among_N.sum())
    wrong, all_wrong = int((mask_N & wrong_N).sum()), int((among_N & wrong_N).sum())
    if n < least or total - n < least or all_wrong in (0, total):
        return 0.0
    overall = all_wrong / total
    error = np.sqrt(overall * (1 - overall) * (1 / n + 1 / (total - n)))
    return float((wrong / n - (all_wrong - wrong) / (total - n)) / error)


def _fisher(mask_N: Mask, wrong_N: Mask, among_N: Mask) -> float:
    """P(so many errors or more in the slice), were they spread over all cases at random."""
    wrong = int((mask_N & wrong_N).sum())
    total, all_wrong = int(among_N.sum()), int((among_N & wrong_N).sum())
    return float(hypergeom.sf(wrong - 1, total, all_wrong, int(mask_N.sum())))


def _rate(values_N: NDArray[np.bool_]) -> float:
    return float(values_N.mean()) if len(values_N) else float("nan")


def image_attributes(x_NCHW: NDArray[np.float32]) -> list[Attribute]:
    """What a picture is like, over quartiles: brightness, contrast, sharpness, and where its light lies."""
    grey_NHW = x_NCHW.mean(axis=1, dtype=float)
    height, width = grey_NHW.shape[1:]
    mass_N = np.maximum(grey_NHW.sum(axis=(1, 2)), 1e-12)
    edges_N = np.abs(np.diff(grey_NHW, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey_NHW, axis=2)).mean(axis=(1, 2))
    numbers: dict[str, Floats] = {
        "brightness": grey_NHW.mean(axis=(1, 2)),
        "contrast": grey_NHW.std(axis=(1, 2)),
        "sharpness": edges_N,
        "middle from the left": (grey_NHW.sum(axis=1) @ np.arange(width)) / mass_N / max(width - 1, 1),
        "middle from the top": (grey_NHW.sum(axis=2) @ np.arange(height)) / mass_N / max(height - 1, 1),
    }
    return [Attribute.of_numbers(name, values_N) for name, values_N in numbers.items()]


def feature_attributes(x_ND: NDArray[np.float32]) -> list[Attribute]:
    """Each feature that isn't constant, over quartiles."""
    return [
        Attribute.of_numbers(f"feature {number}", values_N)
        for number, values_N in enumerate(x_ND.T)
        if np.ptp(values_N) > 0
    ]
