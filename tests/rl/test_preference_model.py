"""Reward ensembles: the loss by hand, a planted reward recovered, and what is saved is what is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory
from raysafe.errors import ModelError, TrainingError
from raysafe.rl.fragments import random_pairs
from raysafe.rl.learned_reward import PreferenceModelConfig
from raysafe.rl.preference_model import PreferenceModel, preference_loss
from raysafe.rl.raters import SyntheticRater
from raysafe.rl.transitions import TransitionShape

SHAPE = TransitionShape(obs_features=2, actions=2)
QUICK = PreferenceModelConfig(members=2, hidden=(16,), epochs=40, learning_rate=1e-2)


def walks(count: int, seed: int = 0) -> list[Trajectory]:
    """Fragments whose reward is x of the state, and 0.5 more for action 1."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        obs_T1D, actions_T = draw.normal(size=(9, 2)).astype(np.float32), draw.integers(2, size=8)
        rewards_T = obs_T1D[:-1, 0] + 0.5 * actions_T
        found.append(Trajectory(actions_T=actions_T, obs_T1D=obs_T1D, rewards_T=rewards_T))
    return found


def compared(count: int) -> list[Comparison]:
    draw = np.random.default_rng(1)
    return SyntheticRater(rationality=2.0).compare(random_pairs(walks(80), count, draw), draw)


@pytest.fixture(scope="module")
def fitted() -> PreferenceModel:
    model = PreferenceModel(QUICK, SHAPE, seed=3)
    model.fit(compared(200), walks(40, seed=5))
    return model


def test_loss_by_hand() -> None:
    """sigmoid(2 - 1) = 0.731: -ln 0.731 = 0.3133, -ln 0.269 = 1.3133; a tie is their mean."""
    a, b = torch.full((3,), 2.0), torch.full((3,), 1.0)
    assert preference_loss(a, b, torch.tensor([1.0, 0.0, 0.5])).tolist() == pytest.approx(
        [0.31326, 1.31326, 0.81326], abs=1e-5
    )
    smoothed = preference_loss(a, b, torch.tensor([1.0, 1.0, 1.0]), 0.1)
    assert smoothed[0].item() == pytest.approx(0.9 * 0.31326 + 0.1 * 1.31326, abs=1e-5)


def test_a_planted_reward_is_recovered(fitted: PreferenceModel) -> None:
    fresh = walks(60, seed=9)
    steps_NF = np.concatenate([SHAPE.encode_trajectory(one) for one in fresh])
    true_N = np.concatenate([one.rewards_T for one in fresh if one.rewards_T is not None])
    assert np.corrcoef(fitted.rewards(steps_NF), true_N)[0, 1] > 0.95
    untrained = PreferenceModel(QUICK, SHAPE, seed=3)
    assert abs(np.corrcoef(untrained.rewards(steps_NF), true_N)[0, 1]) < 0.9


def test_rewards_are_normalised_over_what_the_agent_does(fitted: PreferenceModel) -> None:
    steps_NF = np.concatenate([SHAPE.encode_trajectory(one) for one in walks(40, seed=5)])
    each_MN = fitted.member_rewards(steps_NF)
    assert each_MN.mean(axis=1) == pytest.approx([0, 0], abs=1e-9)
    assert each_MN.std(axis=1) == pytest.approx([1, 1], abs=1e-9)


def test_scale_keeps_zero_where_it_is(fitted: PreferenceModel) -> None:
    scaled = PreferenceModel(QUICK.model_copy(update={"normalise": "scale"}), SHAPE, seed=3)
    scaled.set_state(fitted.state())
    steps_NF = SHAPE.encode_trajectory(walks(1)[0])
    gap_MN = scaled.member_rewards(steps_NF) - fitted.member_rewards(steps_NF)
    assert gap_MN == pytest.approx((fitted.mean_M / fitted.std_M)[:, None] * np.ones(len(steps_NF)), abs=1e-9)


def test_held_out_comparisons_are_not_learned_from() -> None:
    """Their answers turned round, the same networks come out."""
    comparisons = compared(60)
    first, second = (PreferenceModel(QUICK, SHAPE, seed=3) for _ in range(2))
    _, held_N = first._split(60)
    turned = [
        Comparison(one.a, one.b, 1 - one.preference) if place in held_N else one
        for place, one in enumerate(comparisons)
    ]
    assert 0 < len(held_N) < 20
    one, other = first.fit(comparisons, walks(5)), second.fit(turned, walks(5))
    assert one.held_out_accuracy == pytest.approx(1 - other.held_out_accuracy)
    for name, array in first.state().items():
        assert (array == second.state()[name]).all(), name


def test_returns_add_up_the_steps(fitted: PreferenceModel) -> None:
    longer = walks(2)
    raw_MN = [fitted._raw(SHAPE.encode_trajectory(one)).sum(axis=1) for one in longer]
    assert fitted.returns(longer) == pytest.approx(np.stack(raw_MN, axis=1))


def test_saved_is_loaded(fitted: PreferenceModel, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    steps_NF = SHAPE.encode_trajectory(walks(1)[0])
    assert (PreferenceModel.load(tmp_path).rewards(steps_NF) == fitted.rewards(steps_NF)).all()
    assert not list(tmp_path.rglob("*.pkl"))


def test_state_of_another_shape_is_refused(fitted: PreferenceModel) -> None:
    other = PreferenceModel(QUICK.model_copy(update={"hidden": (8,)}), SHAPE)
    with pytest.raises(ModelError, match="another shape"):
        other.set_state(fitted.state())


def test_nothing_is_learned_from_nothing() -> None:
    with pytest.raises(TrainingError, match="no comparison"):
        PreferenceModel(QUICK, SHAPE).fit([], walks(1))
