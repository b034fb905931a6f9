"""How a binary decision treats groups: demographic parity, equal opportunity, equalised odds, calibration.

Demographic parity compares P(selected | group) (Dwork et al. 2012), equal opportunity P(selected | qualified, group),
equalised odds also P(selected | unqualified, group), of which the wider gap counts (Hardt, Price and Srebro 2016).
They conflict where base rates differ, so they are always told together. Intervals are made for small groups: Wilson's
of a rate, Newcombe's of a difference, and of the widest of several differences one that holds for all pairs at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from raysafe.errors import DataError
from raysafe.generalization.calibration import chance_error, expected_calibration_error
from raysafe.records.statistics import Estimate, difference_interval, wilson_interval

BINS = 10
MOST_GROUPS = 60
Groups = NDArray[np.str_]
TOGETHER = "together"
"""Name of the groups that all columns make together."""


@dataclass(frozen=True)
class Calibration:
    """Of one group's probabilities."""

    excess: Estimate
    """Mean probability minus the share that is qualified: above zero, the group is overrated."""
    error: float
    """Expected calibration error over bins of equal size."""
    chance: float
    """The error that 95% of perfectly calibrated models would stay below, with these probabilities and this n."""


@dataclass(frozen=True)
class GroupFigures:
    """One group's rates; None where nobody is there to be counted."""

    group: str
    n: int
    base_rate: Estimate
    """P(qualified): of the data, not of the model."""
    selected: Estimate
    true_positive: Estimate | None
    false_positive: Estimate | None
    accuracy: Estimate
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Gap:
    """The widest difference between two groups' rates."""

    value: float
    low: float
    high: float
    n: int
    highest: str
    lowest: str

    @property
    def interval(self) -> tuple[float, float]:
        return (self.low, self.high)


@dataclass(frozen=True)
class Fairness:
    """Figures of each group, and the gaps between those that are large enough."""

    groups: tuple[GroupFigures, ...]
    too_small: tuple[str, ...]
    """Groups with fewer cases than `smallest`: among `groups`, but in no gap."""
    demographic_parity: Gap
    equal_opportunity: Gap | None
    equalised_odds: Gap | None
    """None where a group has nobody qualified, or nobody unqualified: the gap isn't known."""
    calibration: Gap | None


def fairness(
    selected_N: NDArray[np.bool_],
    qualified_N: NDArray[np.bool_],
    groups_N: Groups,
    *,
    probabilities_N: NDArray[np.floating] | None = None,
    smallest: int = 1,
    confidence: float = 0.95,
) -> Fairness:
    """Figures of decisions against outcomes; probabilities_N, of being qualified, add calibration.

    smallest: cases below which a group counts for no gap. Raises DataError with fewer than two groups to compare.
    """
    names = check_groups(groups_N)
    figures = tuple(
        _of_group(name, selected_N[groups_N == name], qualified_N[groups_N == name],
                  None if probabilities_N is None else probabilities_N[groups_N == name])
        for name in names
    )  # fmt: skip
    compared = [one for one in figures if one.n >= smallest]
    too_small = tuple(one.group for one in figures if one.n < smallest)
    if len(compared) < 2:
        raise DataError(
            f"{len(compared)} of the groups {', '.join(names)[:200]} have {smallest} cases or more: "
            "lower smallest_group, give more data, or name another column"
        )
    parity = {one.group: one.selected for one in compared}
    chance = {one.group: one.true_positive for one in compared if one.true_positive is not None}
    false = {one.group: one.false_positive for one in compared if one.false_positive is not None}
    known = len(compared)
    return Fairness(
        groups=figures,
        too_small=too_small,
        demographic_parity=widest_gap([parity], confidence),
        equal_opportunity=widest_gap([chance], confidence) if len(chance) == known else None,
        equalised_odds=widest_gap([chance, false], confidence) if len(chance) == len(false) == known else None,
        calibration=_calibration_gap(compared, confidence) if probabilities_N is not None else None,
    )


def widest_gap(rates: Sequence[Mapping[str, Estimate]], confidence: float = 0.95) -> Gap:
    """The widest difference between two groups in any of the rates, with an interval for it.

    Each pair's difference gets Newcombe's interval at the level that keeps all of them right together (Bonferroni), so
    that the widest true difference lies between the greatest of their lower and the greatest of their upper ends.
    """
    pairs = [(rate[a], rate[b], a, b) for rate in rates for a, b in combinations(rate, 2)]
    level = 1 - (1 - confidence) / len(pairs)
    found = [difference_interval(_counts(a), _counts(b), level) for a, b, _, _ in pairs]
    return _widest([(one, a, b) for one, (_, _, a, b) in zip(found, pairs, strict=True)])


def _widest(differences: Sequence[tuple[Estimate, str, str]]) -> Gap:
    """The largest of signed differences, by size, and the interval for it."""
    low = max(max(0.0, one.low, -one.high) for one, _, _ in differences)
    high = max(max(one.high, -one.low) for one, _, _ in differences)
    widest, a, b = max(differences, key=lambda item: abs(item[0].value))
    highest, lowest = (a, b) if widest.value >= 0 else (b, a)
    return Gap(abs(widest.value), low, high, widest.n, highest, lowest)


def intersections(columns: Mapping[str, Groups]) -> Groups:
    """Groups of all columns at once: `sex=Female, race=Black`."""
    rows = zip(*columns.values(), strict=True)
    return np.array([", ".join(f"{name}={value}" for name, value in zip(columns, row, strict=True)) for row in rows])


def columns_of(groups: Mapping[str, Groups]) -> dict[str, Groups]:
    """Each column's groups and, of several columns, their intersections."""
    return dict(groups) | ({TOGETHER: intersections(groups)} if len(groups) > 1 else {})


def check_groups(groups_N: Groups) -> list[str]:
    """Their names, sorted; raises DataError for one group, or for more than MOST_GROUPS."""
    names = sorted(map(str, np.unique(groups_N)))
    if not 2 <= len(names) <= MOST_GROUPS:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise DataError(
            f"fairness is between 2 to {MOST_GROUPS} groups, found {len(names)} ({shown}): "
            "name a column of groups, and put numbers such as ages into classes first"
        )
    return names


def _of_group(
    name: str,
    selected_N: NDArray[np.bool_],
    qualified_N: NDArray[np.bool_],
    probabilities_N: NDArray[np.floating] | None,
) -> GroupFigures:
    return GroupFigures(
        group=name,
        n=len(selected_N),
        base_rate=_rate(qualified_N),
        selected=_rate(selected_N),
        true_positive=_rate(selected_N[qualified_N]) if qualified_N.any() else None,
        false_positive=_rate(selected_N[~qualified_N]) if not qualified_N.all() else None,
        accuracy=_rate(selected_N == qualified_N),
        calibration=None if probabilities_N is None else _calibration(probabilities_N, qualified_N),
    )


def _rate(values_N: NDArray[np.bool_]) -> Estimate:
    return wilson_interval(int(values_N.sum()), len(values_N))


def _counts(estimate: Estimate) -> tuple[int, int]:
    return round(estimate.value * estimate.n), estimate.n


def _calibration(probabilities_N: NDArray[np.floating], qualified_N: NDArray[np.bool_]) -> Calibration:
    return Calibration(
        excess=_excess(probabilities_N, qualified_N),
        error=expected_calibration_error(probabilities_N, qualified_N, BINS),
        chance=chance_error(probabilities_N, np.random.default_rng(0), BINS),
    )


def _excess(probabilities_N: NDArray[np.floating], qualified_N: NDArray[np.bool_]) -> Estimate:
    """Mean probability less Wilson's interval of the share qualified: the probabilities are given, outcomes drawn."""
    rate = _rate(qualified_N)
    mean = float(np.mean(probabilities_N))
    return Estimate(mean - rate.value, mean - rate.high, mean - rate.low, rate.n)


def _calibration_gap(groups: Sequence[GroupFigures], confidence: float) -> Gap:
    """The widest difference between two groups' excess, with the interval of the difference of their base rates."""
    pairs = list(combinations(groups, 2))
    level = 1 - (1 - confidence) / len(pairs)
    differences = []
    for a, b in pairs:
        assert a.calibration is not None and b.calibration is not None
        rates = difference_interval(_counts(a.base_rate), _counts(b.base_rate), level)
        shift = a.calibration.excess.value - b.calibration.excess.value
        value = Estimate(shift, shift + rates.value - rates.high, shift + rates.value - rates.low, rates.n)
        differences.append((value, a.group, b.group))
    return _widest(differences)
