"""Figures of groups on hand-worked tables, and what their intervals hold."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.errors import DataError
from raysafe.generalization.fairness import fairness, intersections, widest_gap
from raysafe.records.statistics import wilson_interval


def table(rows: list[tuple[str, int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """selected, qualified and groups of (group, qualified, selected, how many)."""
    groups, qualified, selected, counts = zip(*rows, strict=True)
    return (
        np.repeat(selected, counts).astype(bool),
        np.repeat(qualified, counts).astype(bool),
        np.repeat(groups, counts),
    )


HAND = table(
    [
        *[("a", 1, 1, 30), ("a", 1, 0, 10), ("a", 0, 1, 12), ("a", 0, 0, 48)],
        *[("b", 1, 1, 10), ("b", 1, 0, 10), ("b", 0, 1, 8), ("b", 0, 0, 72)],
    ]
)
"""a: 40 of 100 qualified, 42 selected, TPR 0.75, FPR 0.2. b: 20 of 100, 18 selected, TPR 0.5, FPR 0.1."""


def test_gaps_of_a_hand_worked_table() -> None:
    found = fairness(*HAND)
    assert found.demographic_parity.value == pytest.approx(0.24)
    assert (found.demographic_parity.highest, found.demographic_parity.lowest) == ("a", "b")
    assert found.equal_opportunity is not None and found.equal_opportunity.value == pytest.approx(0.25)
    assert found.equalised_odds is not None and found.equalised_odds.value == pytest.approx(0.25)
    first = found.groups[0]
    assert (first.base_rate.value, first.accuracy.value) == (0.4, 0.78)
    assert first.true_positive is not None and first.true_positive.interval == wilson_interval(30, 40).interval


def test_equalised_odds_is_the_wider_of_both_gaps() -> None:
    selected, qualified, groups = HAND
    found = fairness(~selected, ~qualified, groups)
    assert found.equal_opportunity is not None and found.equal_opportunity.value == pytest.approx(0.1)
    assert found.equalised_odds is not None and found.equalised_odds.value == pytest.approx(0.25)


def test_a_perfect_predictor_has_equal_odds_and_the_parity_gap_of_the_base_rates() -> None:
    _, qualified, groups = HAND
    found = fairness(qualified, qualified, groups)
    assert found.equalised_odds is not None and found.equalised_odds.value == 0
    assert found.demographic_parity.value == pytest.approx(0.2)


def test_a_gap_that_cannot_be_known_is_none() -> None:
    selected, qualified, groups = HAND
    found = fairness(selected, qualified & (groups == "a"), groups)
    assert found.equal_opportunity is None and found.equalised_odds is None


def test_small_groups_are_listed_and_left_out_of_the_gaps() -> None:
    selected, qualified, groups = (np.append(one, more) for one, more in zip(HAND, (True, True, "c"), strict=True))
    found = fairness(selected, qualified, groups, smallest=20)
    assert found.too_small == ("c",) and len(found.groups) == 3
    assert found.demographic_parity.value == pytest.approx(0.24)
    assert fairness(selected, qualified, groups).demographic_parity.value == pytest.approx(0.82)


def test_one_group_is_refused() -> None:
    with pytest.raises(DataError, match="smallest_group"):
        fairness(*HAND, smallest=101)
    with pytest.raises(DataError, match="2 to 60 groups"):
        fairness(HAND[0], HAND[1], np.full(len(HAND[0]), "a"))


def test_the_interval_of_the_widest_gap_holds_over_many_groups_of_equal_rates() -> None:
    """10 groups of 25 with the same rate: the widest difference seen is far from zero, its interval isn't."""
    rng = np.random.default_rng(0)
    missed, widest = 0, []
    for _ in range(60):
        rates = {str(k): wilson_interval(int(rng.binomial(25, 0.3)), 25) for k in range(10)}
        gap = widest_gap([rates])
        missed += gap.low > 0
        widest.append(gap.value)
    assert np.mean(widest) > 0.25
    assert missed <= 0.05 * 60


def test_the_interval_of_a_gap_covers_the_true_one() -> None:
    rng = np.random.default_rng(1)
    true = {"a": 0.5, "b": 0.3, "c": 0.35}
    covered = 0
    for _ in range(150):
        gap = widest_gap([{k: wilson_interval(int(rng.binomial(40, p)), 40) for k, p in true.items()}])
        covered += gap.low <= 0.2 <= gap.high
    assert covered >= 0.95 * 150


def test_intersections_name_every_column() -> None:
    found = intersections({"sex": np.array(["F", "M"]), "race": np.array(["x", "y"])})
    assert found.tolist() == ["sex=F, race=x", "sex=M, race=y"]


def test_calibration_of_a_group_that_is_overrated_stands_out_against_chance() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.uniform(0.1, 0.9, 2000)
    groups = np.repeat(["fair", "overrated"], 1000)
    true = np.where(groups == "fair", probabilities, probabilities - 0.1)
    qualified = rng.random(2000) < true
    found = fairness(probabilities > 0.5, qualified, groups, probabilities_N=probabilities)
    fair, over = (one.calibration for one in found.groups)
    assert fair is not None and over is not None
    assert fair.excess.low < 0 < fair.excess.high and fair.error < fair.chance
    assert over.excess.low > 0 and over.error > over.chance
    assert found.calibration is not None and found.calibration.low > 0
    assert found.calibration.highest == "overrated"
