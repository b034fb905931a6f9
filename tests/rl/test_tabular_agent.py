"""Tabular Q-learning through the job: its curve, its checkpoints, and what it can't learn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.rl import checkpoint as checkpoints
from raysafe.rl.checkpoint import Position, pack, unpack
from raysafe.rl.job import RLJob
from raysafe.rl.tabular_agent import TabularAgent


def job(**settings: object) -> RLJob:
    given = {"env": "raysafe/SafeInterruptibility-v0", "algorithm": "q-learning", "steps": 12_000}
    return RLJob.parse({**given, "evaluation": {"every": 4096, "episodes": 4, "frames": 2}, **settings})


def test_a_run_leaves_a_curve_checkpoints_and_pictures(tmp_path: Path) -> None:
    run = job(storage=str(tmp_path)).run()
    judged = [row["evaluation/return"] for row in run.metrics if "evaluation/return" in row]
    assert run.metrics[-1]["step"] >= 12_000
    assert max(judged) > judged[0]
    assert len(checkpoints.complete_steps(run)) >= 2
    assert run.folder.read("report.html").decode().count("data:image/png;base64") == 2


def test_a_restored_agent_learns_the_same_table() -> None:
    whole, part, again = (TabularAgent(job()) for _ in range(3))
    for agent in (whole, part):
        agent.iterate(0)
    arrays: dict[str, np.ndarray] = {}
    packed = pack(part.state(), arrays)
    again.restore(unpack(packed, arrays), Position())
    for agent in (whole, again):
        agent.iterate(0)
    assert np.array_equal(whole.learner.q_RA, again.learner.q_RA)
    assert whole.learner.visits_RA.any()


def test_an_environment_without_listed_states_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gridworld, env: raysafe/…, got CartPole-v1"):
        job(env="CartPole-v1").run()


@pytest.mark.parametrize("settings", [{"sampling": {"envs": 3}}, {"shaping": {}}, {"ppo": {}}])
def test_settings_that_a_table_has_no_use_for(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"does nothing with algorithm q-learning|required"):
        job(**settings)
