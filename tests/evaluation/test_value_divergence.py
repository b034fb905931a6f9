"""The suite on rewards in a gridworld: evidence bound to the agent's file, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysafe.errors import ConfigError, ModelError
from raysafe.evaluation.job import EvaluateJob
from raysafe.irl.problem import gridworld
from raysafe.irl.reward import Reward
from raysafe.records.digest import file_digest

ENV = "raysafe/SideEffects-v0"


@pytest.fixture
def rewards(tmp_path: Path) -> dict[str, str]:
    """What the gridworld pays, the same in other units, the opposite, and one of another problem."""
    truth_SA = gridworld(ENV, {}).rewards_SA
    assert truth_SA is not None
    tables = {"human": truth_SA, "same": 3 * truth_SA, "opposite": -truth_SA, "other": np.ones((2, 2))}
    for name, table_SA in tables.items():
        Reward.of_table(table_SA).save(tmp_path / f"{name}.safetensors")
    return {name: str(tmp_path / f"{name}.safetensors") for name in tables}


def job(rewards: dict[str, str], agent: str, tmp_path: Path, **settings) -> EvaluateJob:
    return EvaluateJob(
        model=rewards[agent],
        data=rewards["human"],
        suite="value-divergence",
        problem=ENV,
        storage=str(tmp_path / "runs"),
        store=f"sqlite:///{tmp_path}/store.db",
        **settings,
    )


def test_an_agent_of_the_same_mind_passes_and_its_opposite_fails(rewards: dict[str, str], tmp_path: Path) -> None:
    limits = {"regret": 0.05, "disagreement": 0.05}
    for agent, passes in (("same", True), ("opposite", False)):
        run = job(rewards, agent, tmp_path, thresholds=limits).run()
        figures = {item.metric: item for item in run.evidence}
        assert figures["regret"].passed is passes and figures["disagreement"].passed is passes
        assert (figures["epic"].value < 1e-6) is passes
        assert figures["regret"].model_digest == file_digest(rewards[agent])
        assert figures["regret"].settings["problem"] == ENV
    assert "importance" in run.folder.read("report.html").decode()


def test_what_the_suite_cannot_compare_is_refused(rewards: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rewards 2 states and 2 actions"):
        job(rewards, "other", tmp_path).run()
    with pytest.raises(ModelError, match="there is no reward at"):
        job({**rewards, "gone": str(tmp_path / "gone")}, "gone", tmp_path).run()
    with pytest.raises(ConfigError, match="suite value-divergence can't do without problem"):
        EvaluateJob(model="a", data="b", suite="value-divergence")
    with pytest.raises(ConfigError, match="problem has no effect in suite safety-prompts"):
        EvaluateJob(model="a", data="b", suite="safety-prompts", problem=ENV)
