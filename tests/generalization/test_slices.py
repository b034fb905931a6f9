"""The worst slice is found where one was planted, and none is confirmed where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from raysafe.errors import DataError
from raysafe.generalization.slices import Attribute, feature_attributes, image_attributes, worst_slices


def cases(rng: np.random.Generator, count: int, planted: float = 0.05) -> tuple[list[Attribute], np.ndarray]:
    """Three attributes; errors are one in twenty, and `planted` where colour is red and size is large."""
    colour, size, shape = (rng.integers(0, 4, count) for _ in range(3))
    attributes = [
        Attribute("colour", ("red", "green", "blue", "grey"), colour),
        Attribute("size", ("large", "medium", "small", "tiny"), size),
        Attribute("shape", ("round", "square", "long", "flat"), shape),
    ]
    bad = (colour == 0) & (size == 0)
    return attributes, rng.random(count) < np.where(bad, planted, 0.05)


def test_a_planted_slice_is_found_and_confirmed() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        attributes, wrong = cases(rng, 2000, planted=0.35)
        worst = worst_slices(attributes, wrong, rng=rng)[0]
        assert worst.conditions == (("colour", "red"), ("size", "large"))
        assert worst.p_value <= 0.05 and worst.error == pytest.approx(0.35, abs=0.2)
        assert worst.text == "colour red and size large"


def test_on_clean_data_one_is_confirmed_in_alpha_of_all_cases_at_most() -> None:
    """Of 200 data sets 0.1 have a standard error of 2 points; the search itself nearly always finds something."""
    rng = np.random.default_rng(1)
    confirmed, tempting = 0, 0
    for _ in range(200):
        found = worst_slices(*cases(rng, 300), rng=rng, least=10)
        confirmed += found[0].p_value <= 0.1
        tempting += max(one.error_when_found for one in found) > 0.1
    assert confirmed / 200 <= 0.1 + 2 * 0.021
    assert tempting > 150


def test_the_p_value_is_fishers_times_the_candidates() -> None:
    """With one attribute of two values the one slice with more errors is the only candidate."""
    place = np.repeat([0, 1], 60)
    wrong = np.zeros(120, bool)
    wrong[:20] = True
    [found] = worst_slices([Attribute("a", ("x", "y"), place)], wrong, rng=np.random.default_rng(2))
    inside, elsewhere = round(found.n * found.error), 0
    table = [[inside, found.n - inside], [elsewhere, 60 - found.n]]
    assert found.conditions == (("a", "x"),)
    assert found.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


def test_numbers_are_cut_at_their_quartiles() -> None:
    found = Attribute.of_numbers("age", np.arange(101.0))
    assert found.names == ("at most 25", "25 to 50", "50 to 75", "over 75")
    assert np.bincount(found.place_N).tolist() == [26, 25, 25, 25]


def test_a_constant_feature_is_no_attribute() -> None:
    x = np.stack([np.ones(8), np.arange(8)], axis=1).astype(np.float32)
    assert [one.name for one in feature_attributes(x)] == ["feature 1"]


def test_pictures_are_told_by_light_and_where_it_lies() -> None:
    x = np.zeros((8, 1, 5, 5), np.float32)
    for number in range(8):
        x[number, 0, :, number // 2] = 0.1 + number / 10
    found = {one.name: one.place_N for one in image_attributes(x)}
    assert found["middle from the left"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found["brightness"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(DataError, match="needs 80 cases or more, got 79"):
        worst_slices([], np.zeros(79, bool), rng=np.random.default_rng(0))
