"""Checkpoints of an online run: complete with their mark only, read as written, the best one kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from raysafe.alignment.online_state import (
    STATE,
    Position,
    complete_steps,
    folder_of,
    forget_old,
    read_state,
    write_state,
)
from raysafe.config import Job
from raysafe.errors import StorageError
from raysafe.runtime.run import Run


class ToyJob(Job):
    job: ClassVar[str] = "toy"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(ToyJob(storage=str(tmp_path)))


def save(run: Run, *steps: int) -> None:
    for step in steps:
        run.folder.write(f"{folder_of(step)}/policy/weights", b"w")
        write_state(run, Position(step=step))


def test_a_position_is_read_as_it_was_written(run: Run) -> None:
    position = Position(
        step=12, updates=48, samples=96, tokens=700, kl_coefficient=0.03, reference="reference/step-00000010", best=0.5,
        best_step=10, without_gain=1, validated=10, history=[{"step": 0.0, "reward": 0.1}], row={"loss": 0.25},
    )  # fmt: skip
    write_state(run, position)
    assert read_state(run, 12) == position


def test_what_metrics_say_is_on_the_disk_before_the_checkpoint_counts(run: Run) -> None:
    run.log(3, {"loss": 1.0})
    save(run, 3)
    assert Run.open(run.uri).metrics == [{"step": 3, "loss": 1.0}]


def test_a_checkpoint_without_its_mark_is_none(run: Run) -> None:
    save(run, 4, 30, 200)
    run.folder.write(f"{folder_of(300)}/policy/weights", b"half")
    run.folder.write("checkpoints/notes/state.json", b"{}")
    assert complete_steps(run) == [4, 30, 200]
    run.folder.remove(f"{folder_of(30)}/{STATE}")
    assert complete_steps(run) == [4, 200]


def test_no_checkpoint_is_an_empty_list(run: Run) -> None:
    assert complete_steps(run) == []


@pytest.mark.parametrize(("best", "kept"), [(1, [1, 4, 5]), (5, [4, 5]), (None, [4, 5]), (4, [4, 5])])
def test_the_latest_and_the_best_are_kept(run: Run, best: int | None, kept: list[int]) -> None:
    save(run, 1, 2, 3, 4, 5)
    forget_old(run, 2, best)
    assert complete_steps(run) == kept
    assert run.folder.list("checkpoints") == [f"step-{step:08d}" for step in kept]


@pytest.mark.parametrize("content", [b"{", b"[1]", json.dumps({"step": 1, "stride": 2}).encode(), b"\xff"])
def test_a_damaged_state_names_its_file_and_the_remedy(run: Run, content: bytes) -> None:
    run.folder.write(f"{folder_of(7)}/{STATE}", content)
    with pytest.raises(StorageError, match=r"step-00000007/state.json is damaged .*delete that checkpoint's folder"):
        read_state(run, 7)
