"""The settings of a learned reward, what a checkpoint keeps of it, and that it reaches the loss and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysafe.data.comparisons import read_comparisons
from raysafe.errors import ConfigError
from raysafe.rl.checkpoint import pack, unpack
from raysafe.rl.job import RLJob
from raysafe.rl.learned_reward import LearnedReward
from raysafe.rl.preference_loop import LearnedRewardExtension, LearnedSteps, reward_model_of, reward_table
from raysafe.rl.preference_model import PreferenceModel
from raysafe.rl.preference_report import audit_section
from tests.bench.preference_tasks import cells
from tests.rl.test_preference_model import QUICK, SHAPE, compared, walks

GRID: dict[str, Any] = {"env": "tests.bench.preference_tasks:ColourGrid", "steps": 2000}
STATES = len(cells())


def test_rewards_of_several_steps_are_refused_by_the_name_of_their_setting() -> None:
    job = RLJob.parse({**GRID, "algorithm": "dqn", "dqn": {"n_step": 3}, "learned_reward": {}})
    with pytest.raises(ConfigError, match=r"dqn\.n_step must be 1 with learned_reward, got 3"):
        _ = job.extensions
    assert len(RLJob.parse({**GRID, "algorithm": "dqn", "dqn": {"n_step": 1}, "learned_reward": {}}).extensions) == 1


def test_observations_of_a_drifting_scale_are_refused() -> None:
    job = RLJob.parse({**GRID, "sampling": {"normalise": True}, "learned_reward": {}})
    with pytest.raises(ConfigError, match=r"sampling\.normalise must be false"):
        _ = job.extensions


def test_an_ensemble_of_one_cant_disagree() -> None:
    with pytest.raises(ConfigError, match=r"model\.members is 1"):
        LearnedReward.parse({"model": {"members": 1}})


def test_comparisons_are_spread_over_the_training() -> None:
    settings = LearnedReward(comparisons=100, first=0.2, rounds=4, until=0.5)
    assert [settings.wanted(share) for share in (0.01, 0.124, 0.125, 0.25, 0.49, 0.5, 1.0)] == [
        20, 20, 40, 60, 80, 100, 100,
    ]  # fmt: skip


def extension() -> LearnedRewardExtension:
    found = LearnedRewardExtension(LearnedReward(model=QUICK), steps=1000, seed=3)
    found._model = PreferenceModel(QUICK, SHAPE, seed=3)
    return found


def test_a_checkpoint_keeps_the_reward_and_what_it_was_learned_from() -> None:
    first, second = extension(), extension()
    first.comparisons, first.asked, first.rounds = compared(40), 41, 2
    first._fit(walks(10))
    arrays: dict[str, np.ndarray] = {}
    kept = pack(first.state(), arrays)
    second.set_state(unpack(kept, arrays))
    steps_NF = SHAPE.encode_trajectory(walks(1)[0])
    assert (second.model.rewards(steps_NF) == first.model.rewards(steps_NF)).all()
    assert (second.asked, second.rounds, second.figures) == (41, 2, first.figures)
    # and both go on alike
    for one in (first, second):
        one._fit(walks(12))
    assert (second.model.rewards(steps_NF) == first.model.rewards(steps_NF)).all()


def test_until_something_is_learned_the_reward_is_nothing() -> None:
    model = PreferenceModel(QUICK, SHAPE)
    obs_TD = np.ones((3, 2), dtype=np.float32)
    assert LearnedSteps(model)(obs_TD, np.zeros(3, dtype=np.int64), obs_TD).tolist() == [0, 0, 0]


def test_the_audit_sees_a_reward_that_is_turned_round() -> None:
    found = extension()
    found.comparisons = compared(100)
    found._fit(walks(20))
    found.pool.fragments.extend(walks(50, seed=8))
    assert found.audit()["correlation"] > 0.8
    found.pool.fragments.clear()
    found.pool.fragments.extend(
        type(one)(actions_T=one.actions_T, obs_T1D=one.obs_T1D, rewards_T=-one.rewards_T)  # type: ignore[operator]
        for one in walks(50, seed=8)
    )
    assert found.audit()["correlation"] < -0.8


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_the_loss_sees_the_learned_reward_and_the_metrics_the_true_one(algorithm: str, tmp_path: Path) -> None:
    """Learned rewards a thousand times as large show in the value loss; true returns stay within the grid's 50."""
    quick = {"ppo": {"batch_size": 400, "minibatch_size": 200}, "dqn": {"warm_up": 200, "gradients": 4}}
    learned = {
        "comparisons": 40,
        "weight": 1000.0,
        "fragment_length": 5,
        "keep_in": str(tmp_path / "kept.parquet"),
        "model": {"epochs": 5, "members": 2},
    }
    settings = {**GRID, "algorithm": algorithm, algorithm: quick[algorithm], "storage": str(tmp_path)}
    settings |= {"evaluation": {"every": 2000, "episodes": 4, "frames": 0}}
    run = RLJob.parse({**settings, "learned_reward": learned}).run()
    last = run.metrics[-1]
    assert last["value_loss"] > 100
    returns = [row[name] for row in run.metrics for name in ("return", "evaluation/return") if name in row]
    assert returns and -50 <= min(returns) <= max(returns) <= 50
    assert last["learned_reward/comparisons"] == 40 == len(read_comparisons(tmp_path / "kept.parquet"))
    model = reward_model_of(run)
    assert reward_table(model, np.eye(STATES, dtype=np.float32)).shape == (STATES, 5)
    section = audit_section(run)
    assert section is not None and section.title == "Learned reward"
    plain = RLJob.parse(settings).run().metrics[-1]
    assert plain["value_loss"] < 100
