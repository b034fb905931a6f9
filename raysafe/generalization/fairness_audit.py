"""What the data themselves say of groups, before any model: who is in them, who is labelled what, what gives them away.

A group that can be told from the features is learned through them though its column is kept out. How well it can be
told is measured by logistic regression on rows that it wasn't fitted to, beside the same with groups shuffled; what a
richer model could tell is more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysafe.data.grouped import Grouped
from raysafe.errors import DataError
from raysafe.generalization.fairness import Gap, Groups, check_groups, columns_of, widest_gap
from raysafe.models.logistic import fit_logistic
from raysafe.models.roc import auroc
from raysafe.records.statistics import Estimate, wilson_interval
from raysafe.runtime.bar import Bar

FOLDS, L2, MOST_ROWS, TELLING = 5, 0.01, 4000, 8
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Leakage:
    """How well a row's group can be told from its features."""

    auroc: float
    """On held-out rows; over several groups, the mean of each against the rest, weighted by size. 0.5: not at all."""
    chance: float
    """What 95% of fits to shuffled groups stay below."""
    p_value: float
    rows: int
    telling: tuple[tuple[str, float], ...]
    """The inputs that by themselves tell most, with their area (of the group that they tell best)."""


@dataclass(frozen=True)
class Share:
    """One group in the data."""

    group: str
    n: int
    share: Estimate
    qualified: Estimate


@dataclass(frozen=True)
class Audit:
    """Of one column of groups."""

    column: str
    shares: tuple[Share, ...]
    label_gap: Gap
    """The widest difference in the share that is qualified."""
    leakage: Leakage | None
    """None where a group is too small to be held out in turn."""

    @property
    def smallest(self) -> Share:
        return min(self.shares, key=lambda share: share.n)


def audit_columns(grouped: Grouped, favourable: int, *, permutations: int = 39, seed: int = 0) -> list[Audit]:
    """The audit of each column of groups and, of several, of their intersections; shows a bar.

    favourable: the class that qualified people are of.
    """
    columns = columns_of(grouped.groups)
    with Bar("leakage", total=len(columns) * (1 + permutations), unit="fit") as bar:
        return [
            audit(
                column,
                grouped.labelled.x,
                grouped.labelled.y == favourable,
                groups_N,
                grouped.features.inputs,
                permutations=permutations,
                seed=seed,
                progress=bar.advance,
            )
            for column, groups_N in columns.items()
        ]


def audit(
    column: str,
    x_ND: NDArray[np.floating],
    qualified_N: NDArray[np.bool_],
    groups_N: Groups,
    inputs: Sequence[str],
    *,
    permutations: int = 39,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Audit:
    """Representation, label balance and leakage. progress is told of each of the 1 + permutations fits."""
    names = check_groups(groups_N)
    shares = []
    for name in names:
        member_N = groups_N == name
        count = int(member_N.sum())
        shares.append(
            Share(
                name,
                count,
                wilson_interval(count, len(groups_N)),
                wilson_interval(int(qualified_N[member_N].sum()), count),
            )
        )
    gap = widest_gap([{share.group: share.qualified for share in shares}])
    small = min(share.n for share in shares) < 2 * FOLDS
    found = None if small else leakage(x_ND, groups_N, inputs, permutations=permutations, seed=seed, progress=progress)
    return Audit(column, tuple(shares), gap, found)


def leakage(
    x_ND: NDArray[np.floating],
    groups_N: Groups,
    inputs: Sequence[str],
    *,
    permutations: int = 39,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Leakage:
    """Cross-validated prediction of the group, against shuffled groups; of MOST_ROWS rows where there are more.

    Raises DataError for a group with fewer rows than there are folds.
    """
    rng = np.random.default_rng(seed)
    if len(x_ND) > MOST_ROWS:
        kept = np.sort(rng.permutation(len(x_ND))[:MOST_ROWS])
        x_ND, groups_N = x_ND[kept], groups_N[kept]
    names, group_N = np.unique(groups_N, return_inverse=True)
    counts = np.bincount(group_N)
    if len(names) < 2 or counts.min() < FOLDS:
        sizes = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
        raise DataError(f"leakage needs 2 groups of {FOLDS} rows or more, found {sizes}")
    spread_D = x_ND.std(axis=0)
    varying_D = spread_D > 1e-12
    scaled_ND = (x_ND[:, varying_D] - x_ND[:, varying_D].mean(axis=0)) / spread_D[varying_D]
    found = _cross_validated(scaled_ND, group_N, rng)
    progress(1)
    shuffled = []
    for _ in range(permutations):
        shuffled.append(_cross_validated(scaled_ND, rng.permutation(group_N), rng))
        progress(1)
    as_good = sum(area >= found for area in shuffled)
    return Leakage(
        auroc=found,
        chance=float(np.quantile(shuffled, 0.95)) if shuffled else float("nan"),
        p_value=(as_good + 1) / (permutations + 1),
        rows=len(x_ND),
        telling=_telling(x_ND, group_N, inputs),
    )


def _cross_validated(x_ND: NDArray[np.floating], group_N: NDArray[np.integer], rng: np.random.Generator) -> float:
    """The area of held-out scores, each group against the rest; the area is taken within each fold."""
    fold_N = _folds(group_N, rng)
    counts = np.bincount(group_N)
    told = range(1, 2) if len(counts) == 2 else range(len(counts))
    areas = []
    for group in told:
        member_N = group_N == group
        within = []
        for fold in range(FOLDS):
            seen_N = fold_N != fold
            weights_D, bias = fit_logistic(x_ND[seen_N], member_N[seen_N].astype(float), L2)
            within.append(auroc(x_ND[~seen_N] @ weights_D + bias, member_N[~seen_N]))
        areas.append(float(np.mean(within)))
    return float(np.average(areas, weights=[counts[group] for group in told]))


def _folds(group_N: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """A fold for each row, with every group evenly in all of them."""
    fold_N = np.empty(len(group_N), dtype=np.int64)
    for group in np.unique(group_N):
        places = rng.permutation(np.flatnonzero(group_N == group))
        fold_N[places] = np.arange(len(places)) % FOLDS
    return fold_N


def _telling(
    x_ND: NDArray[np.floating], group_N: NDArray[np.integer], inputs: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    found = []
    for place, name in enumerate(inputs):
        areas = [auroc(x_ND[:, place], group_N == group) for group in np.unique(group_N)]
        found.append((name, max(max(area, 1 - area) for area in areas)))
    return tuple(sorted(found, key=lambda item: -item[1])[:TELLING])
