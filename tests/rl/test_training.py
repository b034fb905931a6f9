"""A training from end to end: it learns, it can be killed, and it goes on as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from raysafe.cli.main import main
from raysafe.rl import checkpoint as checkpoints
from raysafe.runtime.run import Run

pytestmark = pytest.mark.ray

SETTINGS = """
job: rl
env: tests.rl.balancing:Balancing
steps: 8192
seed: 1
sampling:
  normalise: true
ppo:
  batch_size: 512
evaluation:
  every: 2048
  episodes: 8
  frames: 3
"""
WAIT_S = 600.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rl") / "rl.yaml"
    path.write_text(SETTINGS)
    return path


def only_run(storage: Path) -> Run:
    (folder,) = storage.iterdir()
    return Run.open(folder)


def trained(settings: Path, storage: Path) -> Run:
    assert main(["rl", "--config", str(settings), "--storage", str(storage)]) == 0
    return only_run(storage)


@pytest.fixture(scope="module")
def whole(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing stopped."""
    return trained(settings, tmp_path_factory.mktemp("whole"))


def test_an_agent_learns_what_an_untrained_one_can_not(whole: Run) -> None:
    judged = [row["evaluation/return"] for row in whole.metrics if "evaluation/return" in row]
    assert whole.metrics[0]["step"] == 0
    assert judged[0] < 60
    assert max(judged) > max(100, 2 * judged[0])


def test_rows_count_steps_and_episodes_over_the_whole_run(whole: Run) -> None:
    rows = whole.metrics
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert [row["iteration"] for row in rows[1:]] == list(range(1, len(rows)))
    assert rows[-1]["step"] >= 8192
    # 8,192 steps of episodes of 500 at most
    assert rows[-1]["episodes"] > 8192 / 500


def test_the_report_shows_the_curve_and_an_episode(whole: Run) -> None:
    report = whole.folder.read("report.html").decode()
    assert "Learning curve" in report
    assert report.count("data:image/png;base64") == 3


def test_a_run_that_is_killed_ends_with_the_same_weights_and_curve(
    settings: Path, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "raysafe.cli.main", "rl", "--config", str(settings), "--storage", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + WAIT_S
        while not any(step > 0 for step in _steps(tmp_path)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    killed = only_run(tmp_path)
    assert killed.status == "running"
    assert main(["runs", "resume", killed.uri]) == 0
    resumed = Run.open(killed.uri)
    assert resumed.status == "finished"
    assert next(event["step"] for event in resumed.events if event["event"] == "resumed") > 0
    speed = {"steps_per_s"}
    rows, wanted = (
        [{k: v for k, v in row.items() if k not in speed} for row in run.metrics] for run in (resumed, whole)
    )
    assert rows == wanted
    last = checkpoints.complete_steps(whole)[-1]
    assert checkpoints.complete_steps(resumed)[-1] == last
    found, expected = (
        load_file(run.folder.local_path(f"{checkpoints.folder_of(last)}/{checkpoints.ARRAYS}"))
        for run in (resumed, whole)
    )
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    capsys.readouterr()
    assert main(["runs", "resume", killed.uri]) == 0
    assert "is finished: nothing to do" in capsys.readouterr().out


def _steps(storage: Path) -> list[int]:
    return [int(found.parent.name.removeprefix("step-")) for found in storage.glob("*/checkpoints/*/state.json")]
