"""Going on after an interruption."""

from typing import ClassVar

import pytest

from raysafe.config import Job
from raysafe.errors import Interrupted
from raysafe.quickstart.state import State
from raysafe.runtime.run import Run


class Flaky(Job):
    """Stops at its first start and finishes at its second."""

    job: ClassVar[str] = "flaky"

    def run(self, resume=None):
        run = resume or Run.create(self)
        with run.active():
            if not any(event["event"] == "interrupted" for event in run.events):
                raise KeyboardInterrupt
        return run


class Never(Job):
    job: ClassVar[str] = "never"


def test_an_interrupted_stage_goes_on_in_its_own_run(tmp_path):
    job = Flaky(storage=str(tmp_path))
    with pytest.raises(Interrupted):
        State(tmp_path, "a").run("sft", job)
    first = State(tmp_path, "a").get("sft")
    run = State(tmp_path, "a").run("sft", job)
    assert run.uri == first and run.status == "finished"


def test_a_finished_stage_is_not_run_again(tmp_path):
    state = State(tmp_path, "a")
    done = Run.create(Never(storage=str(tmp_path)))
    done.event("finished")
    state.put("sft", done.uri)
    assert State(tmp_path, "a").run("sft", Never(storage=str(tmp_path))).uri == done.uri


def test_another_seed_starts_from_nothing(tmp_path):
    State(tmp_path, "seed 0").put("corpus", True)
    assert State(tmp_path, "seed 1").get("corpus") is None


def test_a_run_that_was_deleted_is_done_again(tmp_path):
    state = State(tmp_path, "a")
    state.put("sft", str(tmp_path / "gone"))
    assert state.finished_run("sft") is None
