"""Run directories and storage: whole files or none, true status, rows in order, sentences for what the disk refuses."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq
import pytest

from raysafe.config import Job
from raysafe.errors import Interrupted, StorageError, TrainingError
from raysafe.records.evidence import Evidence
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder


class ToyJob(Job):
    job: ClassVar[str] = "toy"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(ToyJob(storage=str(tmp_path), seed=3))


def test_a_run_holds_its_settings_and_environment_and_is_read_back(run: Run) -> None:
    opened = Run.open(run.uri)
    assert opened.config["job"] == "toy" and opened.config["seed"] == 3
    assert opened.environment["seed"] == 3 and "python" in opened.environment
    assert opened.status == "created"


def test_names_are_unique(tmp_path: Path) -> None:
    assert len({Run.create(ToyJob(storage=str(tmp_path))).name for _ in range(20)}) == 20


def test_rows_come_back_in_order_and_a_repeated_step_replaces_its_row(run: Run) -> None:
    for step in (1, 2, 3):
        run.log(step, {"loss": float(step)})
    run.log(2, {"loss": 20.0, "accuracy": 1.0})
    run.flush()
    rows = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 20.0, "accuracy": 1.0}]
    assert Run.open(run.uri).metrics == rows
    table = pq.read_table(run.folder.local_path("metrics.parquet"))
    assert table.column_names == ["step", "loss", "accuracy"]


def test_a_resumed_run_replaces_the_steps_that_it_repeats(run: Run) -> None:
    for step in (1, 2, 3):
        run.log(step, {"loss": float(step)})
    run.flush()
    resumed = Run.open(run.uri)
    resumed.log(2, {"loss": 2.5})
    resumed.log(3, {"loss": 3.5})
    resumed.flush()
    assert [row["loss"] for row in Run.open(run.uri).metrics] == [1.0, 2.5, 3.5]


def test_events_keep_their_order_and_are_written_at_once(run: Run) -> None:
    for event in ("running", "checkpoint", "interrupted"):
        run.event(event)
        assert Run.open(run.uri).events[-1]["event"] == event
    resumed = Run.open(run.uri)
    resumed.event("running")
    events = Run.open(run.uri).events
    assert [e["event"] for e in events] == ["created", "running", "checkpoint", "interrupted", "running"]
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (KeyboardInterrupt(), "interrupted"), (ValueError("no"), "failed")]
)
def test_the_status_is_that_of_the_work(run: Run, error: BaseException | None, status: str) -> None:
    def work() -> None:
        with run.active():
            run.log(1, {"loss": 1.0})
            assert Run.open(run.uri).status == "running"
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(Interrupted if status == "interrupted" else type(error)):
            work()
    opened = Run.open(run.uri)
    assert opened.status == status
    assert opened.metrics == [{"step": 1, "loss": 1.0}]


def test_an_interrupted_job_is_not_a_failed_one(run: Run) -> None:
    with pytest.raises(Interrupted), run.active():
        raise Interrupted("stopped at step 3")
    assert Run.open(run.uri).status == "interrupted"


def test_evidence_and_inputs_add_up(run: Run) -> None:
    item = Evidence(suite="s", metric="m", value=0.5, n=4, model_digest="d")
    run.add_evidence([item])
    run.add_evidence([item])
    run.record_input("data", "a.jsonl", "1")
    run.record_input("data", "a.jsonl", "2")
    assert len(Run.open(run.uri).evidence) == 2
    assert Run.open(run.uri).environment["inputs"] == [{"kind": "data", "uri": "a.jsonl", "sha256": "2"}]


def test_any_filesystem_uri_will_do(tmp_path: Path) -> None:
    run = Run.create(ToyJob(storage=f"file://{tmp_path}/deep"))
    run.log(1, {"loss": 1.0})
    run.flush()
    assert Run.open(run.uri).metrics == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize("uri", ["nosuch://bucket/x", "s3:///"])
def test_a_uri_that_cannot_be_opened_is_one_sentence(uri: str) -> None:
    with pytest.raises(StorageError, match="can't open storage"):
        Folder(uri)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk that holds .* is full: free some space, then: raysafe runs resume /"),
        (errno.EDQUOT, "the disk that holds .* is full: free some space, then: raysafe runs resume /"),
        (errno.EACCES, "no permission to write or read .*: choose another --storage"),
        (errno.EROFS, "no permission to write or read"),
        (errno.EIO, "can't use"),
    ],
)
def test_what_the_disk_refuses_is_a_sentence_and_the_old_file_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    run.folder.write("notes.txt", "old")
    real = run.folder.fs

    class Half:
        """Writes half, then fails as the operating system does."""

        def __init__(self, stream) -> None:
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            self.stream.close()

        def write(self, data: bytes) -> None:
            self.stream.write(data[: len(data) // 2])
            raise OSError(number, "refused")

    class Disk:
        def __getattr__(self, name: str):
            return getattr(real, name)

        def open_output_stream(self, path: str) -> Half:
            return Half(real.open_output_stream(path))

    monkeypatch.setattr(run.folder, "fs", Disk())
    monkeypatch.setattr(Folder, "is_local", True)
    with pytest.raises(StorageError, match=message):
        run.folder.write("notes.txt", "new and longer")
    monkeypatch.undo()
    assert run.folder.read("notes.txt") == b"old"
    assert not [name for name in run.folder.list() if name.endswith(".tmp")]


def test_opening_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"is not a run: it has no config\.yaml"):
        Run.open(tmp_path)


def test_a_folder_is_uploaded_whole_and_replaces_the_old(tmp_path: Path) -> None:
    folder, source = Folder(tmp_path / "runs"), tmp_path / "model"
    folder.create()
    for content in ("one", "two"):
        source.mkdir(exist_ok=True)
        (source / "weights").write_text(content)
        (source / content).write_text("")
        folder.upload(source, "model")
        (source / content).unlink()
    assert folder.read("model/weights") == b"two"
    assert sorted(p.name for p in Path(folder.path, "model").iterdir()) == ["two", "weights"]
    folder.download("model", tmp_path / "back")
    assert json.dumps(sorted(p.name for p in (tmp_path / "back").iterdir())) == '["two", "weights"]'


HOLDER = """
import sys
from raysafe.runtime.run import Run
with Run.open(sys.argv[1]).active():
    print("at work", flush=True)
    sys.stdin.read()
"""


def hold(run: Run) -> subprocess.Popen[str]:
    """Another driver, at work on the run until its input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDER, run.uri], **pipes)
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    return process


def test_a_second_driver_of_a_run_is_refused_by_name_and_writes_nothing(run: Run) -> None:
    with hold(run) as process:
        before = {path: path.read_bytes() for path in Path(run.uri).iterdir()}
        second = Run.open(run.uri)
        with pytest.raises(StorageError) as refused, second.active():
            pytest.fail("two drivers at once")
        second.event("track-failed")
        second.log(1, {"loss": 1.0})
        second.flush()
        assert {path: path.read_bytes() for path in Path(run.uri).iterdir()} == before
        process.communicate("")
    place = f"process {process.pid} on {socket.gethostname()}"
    assert str(refused.value) == f"{run.uri} is at work in {place}: wait for it, or stop it"
    assert refused.value.exit_code == 2


def test_a_killed_driver_leaves_no_lock(run: Run) -> None:
    with hold(run) as process:
        process.send_signal(signal.SIGKILL)
    with Run.open(run.uri).active():
        pass
    assert Run.open(run.uri).status == "finished"


def test_what_another_driver_wrote_before_the_lock_was_free_is_kept(run: Run) -> None:
    late = Run.open(run.uri)
    with run.active():
        run.log(1, {"loss": 1.0})
    with late.active():
        late.log(2, {"loss": 2.0})
    opened = Run.open(run.uri)
    assert [e["event"] for e in opened.events] == ["created", "running", "finished", "running", "finished"]
    assert opened.metrics == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}]


def test_a_driver_may_hold_the_lock_around_its_work(run: Run) -> None:
    with run.locked(), run.active():
        assert (run.folder.read(".lock").decode()) == f"{os.getpid()} {socket.gethostname()}\n"
    assert Run.open(run.uri).status == "finished"


@pytest.mark.parametrize(
    ("error", "status"),
    [(TrainingError("no"), "failed"), (KeyboardInterrupt(), "interrupted"), (Interrupted("at 3"), "interrupted")],
)
def test_a_full_disk_at_the_end_hides_neither_the_first_error_nor_the_status(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    refuse_metrics(run, monkeypatch)
    told = "stopped; go on with" if isinstance(error, KeyboardInterrupt) else str(error)
    with pytest.raises((TrainingError, Interrupted), match=told), run.active():
        run.log(1, {"loss": 1.0})
        raise error
    assert Run.open(run.uri).status == status


def test_a_run_whose_last_metrics_the_disk_refuses_has_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_metrics(run, monkeypatch)
    with pytest.raises(StorageError, match="full"), run.active():
        run.log(1, {"loss": 1.0})
    assert Run.open(run.uri).status == "failed"


def refuse_metrics(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write = run.folder.write

    def refusing(name: str, content: bytes | str) -> None:
        if name == "metrics.parquet":
            raise StorageError("the disk is full")
        write(name, content)

    monkeypatch.setattr(run.folder, "write", refusing)


def test_ctrl_c_names_the_command_that_goes_on(run: Run) -> None:
    with pytest.raises(Interrupted) as stopped, run.active():
        raise KeyboardInterrupt
    assert str(stopped.value) == f"stopped; go on with: raysafe runs resume {run.uri}"
