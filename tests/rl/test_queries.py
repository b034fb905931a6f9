"""Questions go where the ensemble disagrees, and not twice to the same place."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.rl.learned_reward import QueryConfig
from raysafe.rl.preference_model import PreferenceModel
from raysafe.rl.queries import choose, spread_out
from tests.rl.test_preference_model import QUICK, SHAPE, compared, walks


@pytest.fixture(scope="module")
def model() -> PreferenceModel:
    found = PreferenceModel(QUICK.model_copy(update={"members": 4, "epochs": 5}), SHAPE)
    found.fit(compared(40), walks(10))
    return found


@pytest.mark.parametrize("choice", ["spread", "bald"])
@pytest.mark.parametrize("diverse", [True, False])
def test_chosen_pairs_are_more_uncertain_than_random_ones(model: PreferenceModel, choice: str, diverse: bool) -> None:
    fragments = walks(60, seed=4)

    def spread(pairs: list) -> float:
        returns_MN = model.returns([side for pair in pairs for side in pair])
        return float((returns_MN[:, 0::2] - returns_MN[:, 1::2]).std(axis=0, ddof=1).mean())

    config = QueryConfig(choice=choice, diverse=diverse)  # type: ignore[arg-type]
    asked = choose(config, fragments, 20, model, np.random.default_rng(0))
    drawn = choose(QueryConfig(choice="random"), fragments, 20, model, np.random.default_rng(0))
    assert len(asked) == len(drawn) == 20
    assert spread(asked) > (1.3 if choice == "spread" else 1.0) * spread(drawn)


def test_without_a_model_pairs_are_random() -> None:
    fragments = walks(10)
    first = choose(QueryConfig(), fragments, 5, None, np.random.default_rng(3))
    second = choose(QueryConfig(choice="random"), fragments, 5, None, np.random.default_rng(3))
    assert [(id(a), id(b)) for a, b in first] == [(id(a), id(b)) for a, b in second]


def test_points_far_apart_come_first() -> None:
    points_ND = np.array([[0.0], [0.1], [10.0], [9.9], [5.0]])
    assert spread_out(points_ND, 3) == [0, 2, 4]
    assert sorted(spread_out(points_ND, 9)) == [0, 1, 2, 3, 4]
