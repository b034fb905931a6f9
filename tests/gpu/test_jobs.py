"""Jobs as a user runs them, each with a GPU: they learn there, in bfloat16, and go on exactly after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysafe.runtime.run import Run

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
RAYSAFE = [sys.executable, "-c", "import sys; from raysafe.cli.main import main; sys.exit(main())"]
ONE_GPU = ["--training.gpus-per-worker", "1", "--training.cpus-per-worker", "2"]


def environment(folder: Path) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"RAYSAFE_CACHE": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(paths)}


def run(folder: Path, *argv: str) -> Path:
    """A job to its end; the folder of its run."""
    command = [*RAYSAFE, *argv, "--storage", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return only_run(folder)


def only_run(folder: Path) -> Path:
    (found,) = (path.parent for path in folder.glob("*/config.yaml"))
    return found


def figures(folder: Path, name: str) -> list[float]:
    return [row[name] for row in Run.open(str(folder)).metrics if name in row]


@pytest.mark.parametrize(("job", "gain"), [("sft", 1.0), ("dpo", 0.03), ("reward-model", 0.03)])
def test_a_preset_learns_on_a_gpu(tmp_path: Path, job: str, gain: float) -> None:
    done = run(tmp_path, job, "--config", f"jobs/presets/{job.replace('-', '_')}_tiny.yaml", *ONE_GPU)
    losses = figures(done, "loss")
    assert sum(losses[-3:]) / 3 < sum(losses[:3]) / 3 - gain
    assert (done / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("job", ["grpo", "ppo"])
def test_online_training_with_all_roles_on_one_gpu_raises_the_reward(tmp_path: Path, job: str) -> None:
    done = run(tmp_path, job, "--config", f"jobs/presets/{job}_tiny.yaml", "--gpus-per-worker", "1")
    rewards = figures(done, "reward")
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


def test_a_killed_run_goes_on_with_the_losses_of_one_that_was_left_alone(tmp_path: Path) -> None:
    options = ["--config", "jobs/presets/sft_tiny.yaml", *ONE_GPU, "--training.epochs", "12"]
    options += ["--training.checkpoint-every", "5"]
    expected = figures(run(tmp_path / "alone", "sft", *options), "loss")
    killed = tmp_path / "killed"
    command = [*RAYSAFE, "sft", *options, "--storage", str(killed)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(killed), stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if any(killed.glob("*/checkpoints/step-*/state.json")):
                break
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
    folder = only_run(killed)
    assert len(figures(folder, "loss")) < len(expected)
    command = [*RAYSAFE, "runs", "resume", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(killed), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found = figures(folder, "loss")
    assert len(found) == len(expected)
    # a GPU's sums are taken in an order that is not fixed
    assert found == pytest.approx(expected, rel=0.02)


def test_the_doctor_names_the_gpu() -> None:
    done = subprocess.run([*RAYSAFE, "doctor"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "NVIDIA" in done.stdout, done.stdout + done.stderr
