"""The audit on data whose leakage and balance are planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from raysafe.errors import DataError
from raysafe.generalization.fairness_audit import audit, leakage


def planted(shift: float, rows: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three inputs, the second of which lies `shift` deviations higher in group b; who is qualified; groups."""
    rng = np.random.default_rng(seed)
    groups = np.where(rng.random(rows) < 0.3, "b", "a")
    x_ND = rng.standard_normal((rows, 3))
    x_ND[:, 1] += shift * (groups == "b")
    return x_ND, rng.random(rows) < np.where(groups == "a", 0.6, 0.3), groups


def test_a_planted_leak_is_found_at_its_true_size_and_named() -> None:
    """The best area that a normal shift of 1.5 allows is Phi(1.5 / sqrt 2)."""
    x_ND, _, groups = planted(1.5)
    found = leakage(x_ND, groups, ["x", "postcode", "z"], permutations=19)
    assert found.auroc == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.04)
    assert found.p_value == pytest.approx(1 / 20) and found.auroc > found.chance + 0.2
    assert found.telling[0][0] == "postcode"


def test_without_a_leak_nothing_stands_out_from_shuffled_groups() -> None:
    p_values = [
        leakage(*planted(0.0, rows=200, seed=seed)[::2], ["x", "y", "z"], permutations=9).p_value for seed in range(8)
    ]
    assert sum(p <= 0.1 for p in p_values) <= 3
    assert np.mean(p_values) > 0.25


def test_representation_and_label_balance() -> None:
    x_ND, qualified, groups = planted(0.0)
    found = audit("team", x_ND, qualified, groups, ["x", "y", "z"], permutations=1)
    assert found.smallest.group == "b" and found.smallest.share.value == pytest.approx(0.3, abs=0.05)
    assert found.label_gap.low < 0.3 < found.label_gap.high
    assert (found.label_gap.highest, found.label_gap.lowest) == ("a", "b")


def test_several_groups_are_told_each_from_the_rest() -> None:
    rng = np.random.default_rng(1)
    groups = rng.choice(["a", "b", "c"], 400)
    x_ND = rng.standard_normal((400, 2)) + 2.0 * (groups == "c")[:, None]
    found = leakage(x_ND, groups, ["x", "y"], permutations=1)
    # only c is told: a and b are apart from each other not at all, from c by as much
    assert 0.7 < found.auroc < 0.95


def test_a_group_too_small_to_be_held_out_has_no_leakage() -> None:
    x_ND, qualified, groups = planted(0.0, rows=100)
    groups[:] = "a"
    groups[:4] = "b"
    assert audit("team", x_ND, qualified, groups, ["x", "y", "z"]).leakage is None
    with pytest.raises(DataError, match="5 rows or more"):
        leakage(x_ND, groups, ["x", "y", "z"])
