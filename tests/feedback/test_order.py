"""The order of sides and items: fair, repeatable, and what is needed first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from raysafe.feedback.order import first_side, left_for, ranked, shared_by_all

NAMES = [f"q{index}" for index in range(10)]


def test_either_side_is_first_as_often_for_raters_and_items_alike() -> None:
    first = [first_side(0, f"r{rater}", name) == "a" for rater in range(400) for name in NAMES]
    assert binomtest(sum(first), len(first)).pvalue > 0.001
    both = [(first_side(0, "x", f"q{i}"), first_side(0, "y", f"q{i}")) for i in range(4000)]
    assert binomtest(sum(one == other for one, other in both), 4000).pvalue > 0.001


def test_a_rater_sees_an_item_the_same_way_again_and_another_seed_is_another_order() -> None:
    orders = [[first_side(seed, "x", name) for name in NAMES] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_names_that_run_together_are_still_different() -> None:
    first = [first_side(0, "a" * i, "a" * (200 - i)) for i in range(200)]
    assert 60 < first.count("a") < 140


def test_active_puts_disagreement_first_and_the_unknown_last() -> None:
    assert ranked(["w", "x", "y", "z"], "active", seed=0, disagreement={"y": 2.0, "z": 0.0}) == ["y", "z", "w", "x"]


def test_random_is_a_shuffle_that_the_seed_repeats() -> None:
    first, again, other = (ranked(NAMES, "random", seed=seed, disagreement={}) for seed in (1, 1, 2))
    assert first == again != other and sorted(first) == NAMES and first != NAMES


@given(st.floats(0, 1), st.integers(0, 5))
def test_the_overlap_is_a_share_of_the_items_rounded_up(overlap: float, seed: int) -> None:
    shared = shared_by_all(NAMES, overlap, seed=seed)
    assert shared <= {*NAMES} and overlap * 10 <= len(shared) <= overlap * 10 + 1


def test_items_with_fewer_judgements_come_first_in_the_order_wanted() -> None:
    left = left_for(["d", "c", "b", "a"], done={"b"}, counts={"d": 1, "a": 0}, shared=(), wanted=3)
    assert left == ["c", "a", "d"]


def test_an_item_with_enough_judgements_is_left_to_nobody_unless_all_share_it() -> None:
    left = left_for(["a", "b", "c"], done=(), counts={"a": 2, "b": 2, "c": 1}, shared={"b"}, wanted=2)
    assert left == ["b", "c"]
