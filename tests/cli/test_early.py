"""A job that can't be held is refused before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raysafe.cli import early
from raysafe.errors import ResourceError
from raysafe.runtime import cluster
from raysafe.runtime.cluster import Needs, Node


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "local_node", lambda: Node("this machine", 2, 0))


@pytest.mark.parametrize(
    "argv",
    [
        ["--training.workers", "8", "--training.gpus-per-worker", "1"],
        ["--training.workers=8", "--training.gpus_per_worker=1"],
        ["m", "--workers", "8", "--gpus-per-worker", "1"],
        ["--config", "job.yaml"],
        ["--config", "job.yaml", "--training.workers", "8"],
    ],
)
def test_flags_and_file_are_asked_for_what_the_job_needs(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("job: dpo\ntraining: {workers: 4, gpus_per_worker: 1}\n")
    with pytest.raises(ResourceError, match=r"can't hold [48] worker\(s\) of 1 CPUs and 1 GPUs each"):
        early.check_resources(argv)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--beta", "-1"],
        ["--training.workers", "two"],
        ["--training.workers"],
        ["--training.gpus-per-worker", "8"],
        ["--config", "nowhere.yaml"],
        ["--training.workers", "8", "--address", "ray://elsewhere:10001"],
    ],
)
def test_what_is_odd_or_elsewhere_is_left_to_others(argv: list[str]) -> None:
    early.check_resources(argv)


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("training: {workers: 64}\n")
    early.check_resources(["--config", str(tmp_path / "job.yaml"), "--training.workers", "1"])


def test_the_check_that_the_job_makes_itself_agrees() -> None:
    with pytest.raises(ResourceError):
        cluster.preflight(None, Needs(workers=8, gpus=1))


def test_nothing_heavy_is_imported_before_the_refusal() -> None:
    code = (
        "import sys; from raysafe.cli.main import main; "
        "code = main(['dpo', '--training.workers', '4096', '--training.gpus-per-worker', '1']); "
        "print([m for m in ('torch', 'transformers') if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 2"
    assert "can't hold 4096 worker(s)" in done.stderr
