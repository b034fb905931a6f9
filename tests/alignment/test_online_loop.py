"""Online training as a whole: what is lost on the way changes nothing that comes out, and limits end it where they say.

Runs are shared by the claims about them: each starts processes.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from raysafe.alignment.advantages import adapted_kl_coefficient
from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.online_loop import OnlineLoop
from raysafe.alignment.online_state import complete_steps, folder_of, read_state
from raysafe.cli.main import main
from raysafe.errors import TrainingError
from raysafe.models.language import load_policy
from raysafe.runtime.run import Run

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
HERE = "tests.alignment.test_online_loop"
STEPS = 6
Strike = Callable[[OnlineLoop], None]


def low(prompt: Any, answer: str, label: str | None) -> float:
    """Share of digits, signs and spaces. The label is a folder: `slow` in it takes time, `broken` makes a NaN of it."""
    folder = Path(str(label))
    if (folder / "slow").exists():
        time.sleep(0.05)
    return math.nan if (folder / "broken").exists() else sum(letter < "@" for letter in answer) / 8


def job(folder: Path, **fields: Any) -> GRPOJob:
    """A short run in float64; in one process unless told otherwise."""
    rows = [json.dumps({"prompt": f"say {i}", "label": str(folder)}) for i in range(60)]
    (folder / "prompts.jsonl").write_text("\n".join(rows))
    base: dict[str, Any] = {
        "model": "preset:tiny", "data": str(folder / "prompts.jsonl"), "rewards": (f"{HERE}:low",),
        "storage": str(folder / "runs"), "validation_prompts": 8, "validation_fraction": 0.3, "steps": STEPS,
        "prompts_per_step": 4, "answers_per_prompt": 2, "minibatches": 2, "max_tokens": 8, "validate_every": 3,
        "checkpoint_every": 1, "keep_checkpoints": 9, "cpus_per_worker": 0.4, "deadline_s": 60.0,
        "training": {"precision": "float64", "learning_rate": 1e-2},
    }  # fmt: skip
    return GRPOJob(**base | fields)


@contextmanager
def strikes(before: dict[int, Strike]) -> Iterator[None]:
    """While a run goes on: something happens before the step after so many, the first time that it is begun."""
    step, left = OnlineLoop._step, dict(before)

    def struck(loop: OnlineLoop) -> None:
        left.pop(loop.position.step, lambda _: None)(loop)
        step(loop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnlineLoop, "_step", struck)
        yield
    assert not left


def kill(role: str, rank: int) -> Strike:
    """SIGKILL to the process that the events name."""

    def strike(loop: OnlineLoop) -> None:
        where = [event for event in loop.run.events if event["event"] == "placed"][-1]["where"]
        os.kill(where[role][rank]["pid"], signal.SIGKILL)

    return strike


def named(run: Run, event: str) -> list[dict[str, Any]]:
    return [e for e in run.events if e["event"] == event]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_policy(run.uri, dtype=torch.float64).state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def counted(run: Run) -> dict[str, int]:
    """What was learned from, by the end of the run."""
    (trained,) = named(run, "trained")
    last = read_state(run, complete_steps(run)[-1])
    assert (last.updates, last.samples) == (trained["updates"], trained["samples"])
    return {"updates": last.updates, "samples": last.samples, "tokens": last.tokens}


def learned(run: Run) -> list[dict[str, float]]:
    """The rows of metrics, less how long things took."""
    timed = ("overhead", "tokens_per_s")
    return [{n: v for n, v in row.items() if not n.endswith("_s") and n not in timed} for row in run.metrics]


def steps_of(run: Run) -> list[int]:
    return [row["step"] for row in run.metrics]


SPLIT = {"placement": "split", "pools": {"policy": {"workers": 2, "cpus": 0.4}}}


@pytest.fixture(scope="module")
def whole(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every role in processes of its own, the policy in two; nothing is lost."""
    return job(tmp_path_factory.mktemp("whole"), **SPLIT).run()


@pytest.fixture(scope="module")
def struck(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same; a rollout engine and later a rank of the policy are killed."""
    with strikes({2: kill("rollout", 0), 4: kill("policy", 1)}):
        return job(tmp_path_factory.mktemp("struck"), **SPLIT).run()


def test_a_run_that_lost_an_engine_and_a_rank_counts_as_one_that_lost_nothing(whole: Run, struck: Run) -> None:
    assert counted(struck) == counted(whole)
    assert counted(struck)["updates"] == STEPS * 2 and counted(struck)["samples"] == STEPS * 8
    assert [(e["group"], e["kind"]) for e in named(struck, "lost")] == [("rollout", "death"), ("policy", "death")]
    assert [e["group"] for e in named(struck, "rebuilt")] == ["rollout", "policy"]
    # only a trained role has anything to go back to
    assert [e["step"] for e in named(struck, "resumed")] == [4]


def test_a_run_that_lost_an_engine_and_a_rank_ends_with_the_same_weights_to_the_bit(whole: Run, struck: Run) -> None:
    assert equal(weights(struck), weights(whole))
    assert not equal(weights(whole), load_policy("preset:tiny", dtype=torch.float64).state_dict())


def test_metrics_have_a_row_a_step_whatever_was_lost(whole: Run, struck: Run) -> None:
    assert steps_of(struck) == list(range(STEPS + 1))
    assert learned(struck) == learned(whole)


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """In one process, to its end."""
    return job(tmp_path_factory.mktemp("undisturbed")).run()


def test_a_reward_that_is_nan_fails_the_run_with_a_checkpoint_and_mended_it_goes_on(
    undisturbed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    with strikes({4: lambda _: broken.touch()}), pytest.raises(TrainingError) as raised:
        job(tmp_path).run()
    assert str(raised.value).startswith(f"reward {HERE}:low is nan for 8 of 8 answers, first for '")
    assert str(raised.value).endswith("mend the reward, then resume")
    (folder,) = (tmp_path / "runs").iterdir()
    failed = Run.open(folder)
    assert (failed.status, complete_steps(failed)[-1], failed.folder.exists("model")) == ("failed", 4, False)
    broken.unlink()
    assert main(["runs", "resume", str(folder)]) == 0
    mended = Run.open(folder)
    assert mended.status == "finished"
    assert counted(mended) == counted(undisturbed)
    assert learned(mended) == learned(undisturbed)
    assert equal(weights(mended), weights(undisturbed))
    assert f"validation/reward  {mended.metrics[-1]['validation/reward']:.6g}" in capsys.readouterr().out


def test_ctrl_c_leaves_a_checkpoint_and_the_resumed_run_ends_as_one_never_stopped(
    undisturbed: Run, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    (tmp_path / "job.yaml").write_text(job(tmp_path).to_yaml())
    command = [sys.executable, "-m", "raysafe.cli.main", "grpo", "--config", str(tmp_path / "job.yaml")]
    environment = os.environ | {"RAY_ADDRESS": ""}
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    try:
        while not list(tmp_path.glob("runs/*/checkpoints/step-00000002/state.json")):
            assert driver.poll() is None, driver.communicate()[1]
            assert time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.02)
        driver.send_signal(signal.SIGINT)
        said = driver.communicate(timeout=120)[1]
    finally:
        driver.kill()
    assert driver.returncode == 130, said
    assert "Traceback" not in said
    (folder,) = (tmp_path / "runs").iterdir()
    stopped = Run.open(folder)
    last = complete_steps(stopped)[-1]
    assert 2 <= last < STEPS
    assert said.endswith(f"stopped at step {last} with a checkpoint; go on with: raysafe runs resume {folder}\n")
    assert (stopped.status, stopped.folder.exists("model")) == ("interrupted", False)
    slow.unlink()
    assert main(["runs", "resume", str(folder)]) == 0
    resumed = Run.open(folder)
    assert equal(weights(resumed), weights(undisturbed))
    assert learned(resumed) == learned(undisturbed)


class Overlapped(NamedTuple):
    """A run that writes a batch while it learns from the last, and what its reference said of one answer on the way."""

    run: Run
    reference: dict[int, np.ndarray]
    folders: list[str]


@pytest.fixture(scope="module")
def overlapped(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Overlapped:
    """Mixed placement; the policy becomes its own reference after step 3, whose process is killed after step 4."""
    said: dict[int, np.ndarray] = {}
    answer = pa.table({
        "prompt_ids": pa.array([[5, 6, 7]], pa.list_(pa.int32())),
        "answer_ids": pa.array([[8, 9, 10, 11]], pa.list_(pa.int32())),
        "group": pa.array([0], pa.int32()),
        "units": pa.array([4.0]),
    })  # fmt: skip

    def ask(loop: OnlineLoop) -> None:
        said[loop.position.step] = np.array(loop.roles["reference"].call("logps", answer)[0])

    def ask_and_kill(loop: OnlineLoop) -> None:
        ask(loop)
        kill("reference", 0)(loop)

    settings = job(
        tmp_path_factory.mktemp("overlapped"),
        overlap=True,
        loss={"importance_cap": 2.0},
        placement="mixed",
        pools={name: {"cpus": 0.4} for name in ("policy", "rollout", "reference+reward")},
        chunks_per_engine=2,
        validate_every=1,
        keep_checkpoints=2,
        kl_target=0.01,
        kl_horizon=8,
        reference_refresh=3,
    )
    with strikes({2: ask, 3: ask, 4: ask_and_kill, 5: ask}):
        run = settings.run()
    return Overlapped(run, said, run.folder.list("reference"))


def test_overlapped_steps_learn_from_answers_of_the_version_before(overlapped: Overlapped) -> None:
    rows = overlapped.run.metrics[1:]
    # the first batch has no version before it, and what was being written when a process was lost is written anew
    assert [row["staleness"] for row in rows] == [0, 1, 1, 1, 0, 1]
    assert all((row["mismatch"] > 1e-3) == (row["staleness"] == 1) for row in rows)
    assert steps_of(overlapped.run) == list(range(STEPS + 1))


def test_an_adaptive_kl_coefficient_follows_the_kl(overlapped: Overlapped) -> None:
    rows = overlapped.run.metrics[1:]
    expected = [0.05]
    for row in rows[:-1]:
        expected.append(adapted_kl_coefficient(expected[-1], row["kl"], target=0.01, samples=8, horizon=8))
    assert [row["kl_coefficient"] for row in rows] == pytest.approx(expected)
    assert len(set(expected)) == STEPS


def test_a_refreshed_reference_is_the_policy_itself(overlapped: Overlapped) -> None:
    kls = [row["validation/kl"] for row in overlapped.run.metrics]
    assert abs(kls[0]) < 1e-6 and abs(kls[3]) < 1e-6 and abs(kls[6]) < 1e-6
    assert min(map(abs, (kls[2], kls[5]))) > 1e-3


def test_a_reference_that_was_lost_comes_back_as_it_had_become(overlapped: Overlapped) -> None:
    said = overlapped.reference
    assert [e["group"] for e in named(overlapped.run, "lost")] == ["reference+reward"]
    np.testing.assert_array_equal(said[5], said[4])
    np.testing.assert_array_equal(said[4], said[3])
    assert np.abs(said[3] - said[2]).max() > 1e-3


def test_references_that_no_checkpoint_goes_on_from_are_deleted(overlapped: Overlapped) -> None:
    run = overlapped.run
    assert {f"reference/{name}" for name in overlapped.folders} == {
        state.reference for state in (read_state(run, step) for step in complete_steps(run)) if state.reference
    }


def test_a_broken_limit_ends_the_run_and_the_best_checkpoint_within_it_is_the_model(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = job(tmp_path, validate_every=1, steps=30, watch={"max_kl": 0.02}, training={"learning_rate": 3e-3})
    (tmp_path / "job.yaml").write_text(settings.to_yaml())
    assert main(["grpo", "--config", str(tmp_path / "job.yaml")]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    run = Run.open(folder)
    (early,), (back,), (trained,) = (named(run, event) for event in ("stopped-early", "rolled-back", "trained"))
    rows = {row["step"]: row for row in run.metrics}
    assert early["step"] == max(rows) < 30
    assert rows[early["step"]]["validation/kl"] > 0.02
    within = [step for step in rows if step < early["step"]]
    best = max(within, key=lambda step: rows[step]["validation/reward"])
    assert back["step"] == early["best_step"] == trained["best_step"] == best
    assert all(rows[step]["validation/kl"] <= 0.02 for step in within)
    saved = load_file(folder / folder_of(best) / "policy" / "weights.safetensors")
    model = load_policy(run.uri).state_dict()
    assert saved and all(torch.equal(tensor, model[name]) for name, tensor in saved.items())
    assert early["why"].endswith("watch.max_kl is 0.02")
    assert f"Stopped early: {early['why']}." in run.folder.read("report.html").decode()
    shown = capsys.readouterr().out
    assert f"early   step {early['step']}: {early['why']}\n" in shown
    assert f"model   of step {best}, the best by validation\n" in shown
