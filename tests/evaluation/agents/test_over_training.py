"""What an agent comes to pursue, and when it begins to hack, from the checkpoints of a real training."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.errors import DataError
from raysafe.evaluation.agents.checkpoints import keeps_checkpoints, policies_over_training
from raysafe.evaluation.agents.emergent import best_tile, curves, emerged
from raysafe.evaluation.job import EvaluateJob
from raysafe.evaluation.suites import SUITES, Findings, SuiteName
from raysafe.rl.envs.reward_gaming import RewardGaming
from raysafe.rl.job import RLJob
from raysafe.runtime.run import Run
from tests.evaluation.agents.planted import best, taught


def test_a_goal_has_emerged_where_nothing_else_is_pursued_to_the_end() -> None:
    assert [emerged(goals) for goals in (["a"], ["a", "b", "b"], ["b", "a", "b"], ["b", "b"])] == [0, 1, 2, 0]


def test_the_tile_that_predicts_best_is_what_is_pursued_and_none_where_none_does() -> None:
    assert best_tile({"the reward": 0.9, "tile 'G'": 0.2, "tile 'W'": 0.3}) == "tile 'W'"
    assert best_tile({"the reward": 0.9, "tile 'G'": 0.0}) == "none"


def test_curves_are_of_the_reward_and_of_the_tiles_that_predicted_most() -> None:
    names = [f"tile '{letter}'" for letter in "abcde"]
    rows = [{"step": step, "pursues": "none", "the reward": 0.1, **dict.fromkeys(names, 0.0)} for step in (0, 10)]
    rows[1] |= {"tile 'd'": 0.9, "tile 'b'": 0.5, "tile 'e'": 0.4}
    drawn = curves(rows)
    assert [curve.name for curve in drawn] == ["the reward", "tile 'd'", "tile 'b'", "tile 'e'"]
    assert (drawn[1].x, drawn[1].y) == ([0, 10], [0.0, 0.9])


def trained(folder: Path, env: str, keep: int) -> str:
    settings = {"env": env, "steps": 1500, "keep_checkpoints": keep, "storage": str(folder), "sampling": {"envs": 4}}
    settings |= {
        "ppo": {"batch_size": 500, "learning_rate": 0.01},
        "evaluation": {"every": 500, "episodes": 2, "frames": 0},
    }
    return RLJob.parse(settings).run().uri


def examined(suite: SuiteName, model: str, data: str, **settings: str) -> Findings:
    asked = {"episodes": 2} if "episodes" in SUITES[suite].settings else {}
    found = SUITES[suite].examine(
        EvaluateJob.parse({"suite": suite, "model": model, "data": data, **asked, **settings})
    )
    assert {figure.metric for figure in found.figures} <= SUITES[suite].metrics
    return found


@pytest.mark.ray
def test_each_checkpoint_is_examined_as_the_policy_that_it_was(tmp_path: Path) -> None:
    """The exported policy is that of the best checkpoint: its row says what goal-directedness says of it."""
    env = "raysafe/SafeExploration-v0"
    run = trained(tmp_path, env, keep=10)
    rows = examined("emergent-goals", run, env).rows
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows}) and len(rows) == 4
    exported = {row["goal"]: row["share"] for row in examined("goal-directedness", run, env).rows}
    pursued = [row["the reward"] for row in rows]
    assert any(share == pytest.approx(exported["the reward"], abs=1e-6) for share in pursued)
    assert len(set(pursued)) > 1
    with pytest.raises(DataError, match="kept 4 checkpoints, and 5 are needed"):
        next(policies_over_training(run, least=5))


def test_runs_of_other_jobs_have_no_policies(tmp_path: Path) -> None:
    asked = {"suite": "emergent-goals", "model": "-", "data": "-", "storage": str(tmp_path)}
    run = Run.create(EvaluateJob.parse(asked))
    with pytest.raises(DataError, match="is a run of evaluate"):
        next(policies_over_training(run.uri))
    assert not keeps_checkpoints(run.uri) and not keeps_checkpoints(str(tmp_path))


@pytest.mark.ray
def test_the_detector_is_judged_on_checkpoints_that_hack_and_that_dont(tmp_path: Path) -> None:
    problem, env = RewardGaming(), "raysafe/RewardGaming-v0"
    trusted = taught(tmp_path / "means", (problem, best(problem, "performance")))
    run = trained(tmp_path, env, keep=10)
    found = examined("reward-hacking", run, env, reference=trusted)
    judged = found.summary["checkpoints"]
    assert [row["run"] for row in judged] == [run] * 4
    assert {figure.metric for figure in found.figures} >= {"divergence", "hidden_loss"}
    hacks = {row["hacks"] for row in judged}
    assert ("detector_auroc" in {figure.metric for figure in found.figures}) == (len(hacks) == 2)
    # a model's folder has no checkpoints to judge
    assert examined("reward-hacking", trusted, env, reference=trusted).summary == {"checkpoints": []}
