"""Other seeds and small changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.generalization.stability import feature_changes, image_changes, multiplicity, shifted


def test_models_of_other_seeds_are_compared_as_worked_by_hand() -> None:
    """Of ten cases the second model differs in 1, the third in 2 others: pairs differ in 1, 2 and 3."""
    y = np.zeros(10, int)
    predicted = np.zeros((3, 10), int)
    predicted[1, 0], predicted[2, 1:3] = 1, 1
    found = multiplicity(predicted, y)
    assert (found.churn, found.ambiguity, found.discrepancy) == (pytest.approx(0.2), 0.3, 0.2)
    assert found.disputed_N.tolist() == [True] * 3 + [False] * 7
    # accuracies 1, 0.9, 0.8: 0.1, 0.2 and 0.9 x 0.2 + 0.8 x 0.1
    assert found.chance == pytest.approx((0.1 + 0.2 + 0.26) / 3)


def test_one_model_is_compared_with_none() -> None:
    with pytest.raises(ValueError, match="give 2 or more, got 1"):
        multiplicity(np.zeros((1, 3), int), np.zeros(3, int))


@given(down=st.integers(-4, 4), right=st.integers(-4, 4))
def test_a_move_and_its_opposite_keep_what_was_never_outside(down: int, right: int) -> None:
    x = np.random.default_rng(0).random((2, 1, 3, 3)).astype(np.float32)
    back = shifted(shifted(x, down, right), -down, -right)
    kept = back != 0
    assert (back[kept] == x[kept]).all()
    assert kept.sum() == 2 * max(3 - abs(down), 0) * max(3 - abs(right), 0)


def test_changes_of_images_stay_small_and_within_the_range() -> None:
    x = np.random.default_rng(1).random((20, 1, 8, 8)).astype(np.float32)
    for name, change in image_changes(0.05, 0.1, 1).items():
        changed = change(x, np.random.default_rng(2))
        assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 1
        assert not np.array_equal(changed, x), name
    assert image_changes(0.05, 0.1, 1)["brighter by 0.1"](x, np.random.default_rng(0)) == pytest.approx(
        np.minimum(x + 0.1, 1)
    )


def test_noise_on_features_is_in_their_own_units() -> None:
    x = np.zeros((4000, 2), np.float32)
    [change] = feature_changes(0.1, np.array([1.0, 50.0])).values()
    assert change(x, np.random.default_rng(3)).std(axis=0) == pytest.approx([0.1, 5.0], rel=0.05)
