"""`raysafe irl` in a table, as a user runs it: what it leaves behind, and what it refuses before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from raysafe.cli.main import main
from raysafe.data.schema import to_json_lines
from raysafe.data.trajectories import to_table
from raysafe.errors import ConfigError, DataError
from raysafe.irl.demonstrators import demonstrate
from raysafe.irl.job import IRLJob
from raysafe.irl.rationality import boltzmann_policy
from raysafe.irl.reward import load_reward
from raysafe.runtime.run import Run
from tests.irl.problems import grid

SIDE, GAMMA = 4, 0.9


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A grid with a goal and a trap, and twelve demonstrations in it."""
    mdp = grid(SIDE)
    rewards_SA = np.zeros((SIDE * SIDE, 4))
    rewards_SA[15], rewards_SA[5] = 1.0, -1.0
    arrays = {"transitions": mdp.transitions.toarray().reshape(16, 4, 16), "initial": mdp.initial_S}
    np.savez(tmp_path / "grid.npz", **arrays, rewards=rewards_SA, columns=np.array(SIDE))
    shown = demonstrate(mdp, boltzmann_policy(mdp, rewards_SA, GAMMA, 8.0), 12, steps=25, seed=0)
    rows = [{k: v for k, v in row.items() if v is not None} for row in to_table(shown).to_pylist()]
    (tmp_path / "shown.jsonl").write_text(to_json_lines(rows))
    return {
        "mdp": str(tmp_path / "grid.npz"),
        "demonstrations": str(tmp_path / "shown.jsonl"),
        "storage": str(tmp_path / "runs"),
        "gamma": GAMMA,
    }


def test_a_reward_is_learned_saved_judged_and_shown(given: dict[str, Any]) -> None:
    run = IRLJob(method="maxent", **given).run()
    figures = {item.metric: item.value for item in run.evidence}
    assert figures["value_difference"] < 0.2
    # better than a demonstrator who acts at random
    assert figures["held_out_log_likelihood"] > np.log(1 / 4)
    reward = load_reward(run.folder.local_path("reward/reward.safetensors"))
    assert reward.table_SA().shape == (16, 4)
    assert reward.table_SA()[15, 0] > reward.table_SA()[5, 0]
    report = run.folder.read("report.html").decode()
    assert "learned reward" in report and "true reward" in report and report.count("<svg") >= 2
    assert run.status == "finished" and run.environment["inputs"][0]["kind"] == "data"


def test_a_networks_reward_is_learned_too(given: dict[str, Any]) -> None:
    settings = {"iterations": 60, "learning_rate": 0.05}
    run = IRLJob(method="deep-maxent", deep_maxent=settings, **given).run()
    assert {item.metric: item.value for item in run.evidence}["value_difference"] < 0.2
    reward = load_reward(run.folder.local_path("reward/reward.safetensors"))
    assert reward.card.learned_by == "deep maximum entropy" and reward.card.gamma == GAMMA


def test_cloning_in_a_table_leaves_a_policy_and_no_reward(given: dict[str, Any]) -> None:
    run = IRLJob(method="bc", **given).run()
    policy_SA = load(run.folder.read("reward/policy.safetensors"))["policy"]
    np.testing.assert_allclose(policy_SA.sum(axis=1), 1.0)
    assert not run.folder.exists("reward/reward.safetensors")
    assert {item.metric for item in run.evidence} == {"held_out_log_likelihood", "value_difference"}


def test_a_posterior_is_drawn_and_its_mean_kept(given: dict[str, Any]) -> None:
    bayesian = {"sampler": {"kind": "variational"}, "chains": 2, "draws": 50, "warmup": 0, "beta": 8.0}
    run = IRLJob(method="bayesian", bayesian=bayesian, **given).run()
    assert "r_hat" in run.metrics[-1]
    assert load_reward(run.folder.local_path("reward/reward.safetensors")).card.states == 16


def test_a_run_that_stopped_before_its_end_tells_its_evidence_once(given: dict[str, Any]) -> None:
    job = IRLJob(method="maxent", **given)
    run = job.run()
    kept = [item.value for item in run.evidence]
    again = job.run(resume=Run.open(run.uri))
    assert [item.value for item in again.evidence] == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "raysafe/SideEffects-v0"}, "method maxent needs env or mdp, and no more"),
        ({"mdp": None}, "method maxent needs env or mdp"),
        ({"steps": 5}, "steps has no effect with method maxent"),
        ({"gamma": 1.0}, "gamma 1 needs a horizon"),
        ({"method": "airl"}, "gamma, mdp has no effect with method airl"),
        (
            {"method": "gail", "mdp": None, "gamma": None, "env": "CartPole-v1", "sampling": {"normalise": True}},
            "sampling.normalise must be false with method gail",
        ),
        ({"method": "maxim"}, "method: Input should be 'maxent'"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        IRLJob(**({"method": "maxent"} | given | change))


def test_a_problem_is_read_before_a_run_is_made(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        IRLJob(method="maxent", **(given | {"mdp": str(tmp_path / "none.npz")})).run()
    with pytest.raises(ConfigError, match="CartPole-v1 has no table of transitions"):
        IRLJob(method="maxent", **(given | {"mdp": None, "env": "CartPole-v1"})).run()
    assert not (tmp_path / "runs").exists()


def test_the_command_line_ends_with_2_and_one_sentence(
    given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [part for name in ("mdp", "storage") for part in (f"--{name}", given[name])]
    assert main(["irl", "--method", "maxent", "--demonstrations", "none.jsonl", *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert (
        said == "raysafe: there is no data file none.jsonl: give a file, a folder, a glob, or a Hugging Face dataset id"
    )
