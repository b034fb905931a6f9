"""Rewards: tables, linear ones, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse

from raysafe.errors import DataError, ModelError
from raysafe.irl.features import Features
from raysafe.irl.reward import Reward, load_reward

WEIGHTS = np.array([2.0, -1.0])
STATES_BY_HAND = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
"""Worth 2, -1 and 5."""


def test_features_of_states_reward_every_action_alike() -> None:
    reward = Reward.of_features(Features(STATES_BY_HAND, 3, 2), WEIGHTS)
    assert reward.table_SA().tolist() == [[2, 2], [-1, -1], [5, 5]]


def test_features_of_actions_tell_them_apart() -> None:
    features_SAF = np.stack([STATES_BY_HAND, 2 * STATES_BY_HAND], axis=1)
    expected = [[2, 4], [-1, -2], [5, 10]]
    assert Reward.of_features(Features(features_SAF, 3, 2), WEIGHTS).table_SA().tolist() == expected
    flat = Features(sparse.csr_array(features_SAF.reshape(6, 2)), 3, 2)
    assert Reward.of_features(flat, WEIGHTS).table_SA().tolist() == expected


def test_one_action_has_features_of_its_own_or_of_the_state_alike() -> None:
    for array in (STATES_BY_HAND, STATES_BY_HAND[:, None], sparse.csr_array(STATES_BY_HAND)):
        features = Features(array, 3, 1)
        assert features.rewards(WEIGHTS).tolist() == [[2], [-1], [5]]
        assert features.expected(np.array([[1.0], [1.0], [2.0]])).tolist() == [7, 3]


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("of_actions", [False, True])
def test_expected_features_are_the_gradient_of_the_reward_earned(thin: bool, of_actions: bool) -> None:
    draw = np.random.default_rng(0)
    array = draw.normal(size=(3, 2, 4) if of_actions else (3, 4))
    features = Features(sparse.csr_array(array.reshape(-1, 4)) if thin else array, 3, 2)
    visits_SA = draw.random((3, 2))
    earned = [(features.rewards(unit_F) * visits_SA).sum() for unit_F in np.eye(4)]
    assert features.expected(visits_SA) == pytest.approx(earned, abs=1e-12)


@pytest.mark.parametrize("shape", ["table", "states", "actions", "sparse states", "sparse actions"])
def test_a_reward_is_read_as_it_was_written(shape: str, tmp_path: Path) -> None:
    arrays = {
        "states": STATES_BY_HAND,
        "actions": np.stack([STATES_BY_HAND, 2 * STATES_BY_HAND], axis=1),
        "sparse states": sparse.csr_array(STATES_BY_HAND),
        "sparse actions": sparse.csr_array(np.repeat(STATES_BY_HAND, 2, axis=0)),
    }
    if shape == "table":
        reward = Reward.of_table(np.arange(6.0).reshape(3, 2), learned_by="by hand")
    else:
        reward = Reward.of_features(Features(arrays[shape], 3, 2), WEIGHTS, gamma=0.9, feature_names=("goal", "trap"))
    reward.save(tmp_path / "reward.safetensors")
    again = load_reward(tmp_path / "reward.safetensors")
    assert (again.table_SA() == reward.table_SA()).all()
    assert again.card == reward.card
    assert (again.features is None) == (shape == "table")


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(DataError, match=r"features must be \(3, F\) or \(3, 2, F\)"):
        Features(np.zeros((2, 4)), 3, 2)
    with pytest.raises(DataError, match=r"weights_F must be finite numbers \(2,\), got shape \(3,\)"):
        Reward.of_features(Features(STATES_BY_HAND, 3, 2), np.zeros(3))
    with pytest.raises(DataError, match="values_SA must be finite"):
        Reward.of_table(np.full((3, 2), np.nan))
    with pytest.raises(DataError, match="1 names, which is not one for each weight"):
        Reward.of_features(Features(STATES_BY_HAND, 3, 2), WEIGHTS, feature_names=("goal",))


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reward.safetensors"
    Reward.of_features(Features(sparse.csr_array(STATES_BY_HAND), 3, 2), WEIGHTS).save(path)
    arrays = load_file(path)
    arrays["features.indices"] = arrays["features.indices"] + 5
    card = '{"states": 3, "actions": 2}'
    save_file(arrays, path, {"reward": card})
    with pytest.raises(ModelError, match="indices outside"):
        load_reward(path)
    save_file({"values": np.zeros((3, 1))}, path, {"reward": card})
    with pytest.raises(ModelError, match=r"values_SA must be finite numbers \(3, 2\)"):
        load_reward(path)
    save_file({"other": np.zeros(1)}, path, {"reward": card})
    with pytest.raises(ModelError, match="is no reward"):
        load_reward(path)
    path.write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match="no safetensors file"):
        load_reward(path)
