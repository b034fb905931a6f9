"""Corrections for several tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raysafe.generalization.corrections import bonferroni, holm, westfall_young

P_VALUES = arrays(float, st.integers(1, 8), elements=st.floats(0, 1))


def test_holms_values_are_those_worked_by_hand() -> None:
    """0.01 x 4, then 0.02 x 3, then 0.03 x 2, which may not fall below it, then 0.9."""
    assert holm(np.array([0.03, 0.01, 0.9, 0.02])) == pytest.approx([0.06, 0.04, 0.9, 0.06])


@given(p_D=P_VALUES)
def test_holm_lies_between_the_p_value_and_bonferronis(p_D: np.ndarray) -> None:
    assert (holm(p_D) >= p_D).all() and (holm(p_D) <= bonferroni(p_D)).all()


@given(p_D=P_VALUES, seed=st.integers(0, 99))
def test_the_order_of_the_tests_changes_nothing(p_D: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(p_D))
    assert holm(p_D)[order] == pytest.approx(holm(p_D[order]))


def test_the_step_down_maximum_is_that_worked_by_hand() -> None:
    """Observed 3 and 2: a maximum of 3 or more is reached twice in four, the second by itself 2 or more three times."""
    statistics_PD = np.array([[3.0, 2.0], [1.0, 3.0], [0.0, 2.0], [1.0, 0.0]])
    assert westfall_young(statistics_PD) == pytest.approx([0.5, 0.75])


def test_features_that_move_together_cost_no_correction() -> None:
    column = np.random.default_rng(0).standard_normal(200)
    column[0] = np.sort(column)[-5]
    alone, thrice = westfall_young(column[:, None]), westfall_young(np.repeat(column[:, None], 3, axis=1))
    assert thrice == pytest.approx(np.repeat(alone, 3))
    assert bonferroni(np.repeat(alone, 3)) == pytest.approx(3 * np.repeat(alone, 3))
