"""Experiment tracking: what arrives at a tracker, that no tracker can harm a run, and the real packages read back."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from raysafe.alignment.sft import SFTJob
from raysafe.config import Job
from raysafe.errors import ConfigError, Interrupted
from raysafe.runtime import track
from raysafe.runtime.cluster import Needs
from raysafe.runtime.run import Run
from raysafe.runtime.track import flat, member_named, reason, tracked, without_credentials
from raysafe.runtime.trackers import TRACKERS, About, Ending, Opened, Row, check_trackers

SECRET = "0123456789abcdef0123456789abcdef01234567"


class ToyJob(Job):
    job: ClassVar[str] = "toy"

    needs: Needs = Needs(workers=2)


class Recorder:
    """A tracker that remembers. trouble: what a method does besides, an error to raise or an event to wait for."""

    package: ClassVar[str] = "json"

    def __init__(
        self, *, last_step: int | None = 0, url: str | None = None, **trouble: BaseException | threading.Event
    ) -> None:
        self.last_step, self.url, self.trouble = last_step, url, trouble
        self.about: list[About] = []
        self.ids: list[str | None] = []
        self.rows: list[Row] = []
        self.endings: list[Ending] = []

    def __call__(self) -> Recorder:
        """It stands for its class in the table of trackers."""
        return self

    def open(self, about: About, id: str | None) -> Opened:
        self._trouble("open")
        self.about.append(about)
        self.ids.append(id)
        return Opened(id or "id-1", self.url, self.last_step)

    def log(self, rows: Sequence[Row]) -> None:
        self._trouble("log")
        self.rows.extend(rows)

    def close(self, ending: Ending) -> None:
        self._trouble("close")
        self.endings.append(ending)

    def _trouble(self, method: str) -> None:
        trouble = self.trouble.get(method)
        if isinstance(trouble, threading.Event):
            trouble.wait()
        elif trouble is not None:
            raise trouble


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(ToyJob(storage=str(tmp_path), seed=3))


def use(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    """Let `recorder` stand for W&B."""
    monkeypatch.setitem(TRACKERS, "wandb", recorder)
    return recorder


def train(run: Run, steps: Sequence[int], error: BaseException | None = None) -> None:
    """What a job does, as far as tracking sees it."""
    with tracked(run, ["wandb"]), run.active():
        for step in steps:
            run.log(step, {"loss": 1.0 / step, "epoch": step / 4})
        if error is not None:
            raise error


def events(run: Run, event: str) -> list[dict[str, Any]]:
    return [e for e in Run.open(run.uri).events if e["event"] == event]


def test_settings_rows_and_ending_reach_the_tracker(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = use(monkeypatch, Recorder())
    train(run, range(1, 9))
    about = recorder.about[0]
    assert (about.name, about.uri, about.job) == (run.name, run.uri, "toy")
    assert about.settings["seed"] == 3 and about.settings["needs.workers"] == 2 and "job" not in about.settings
    assert [{"step": step, **values} for step, values in recorder.rows] == run.metrics
    assert recorder.endings == ["finished"]


@pytest.mark.parametrize(
    ("error", "ending"),
    [(ValueError("no"), "failed"), (KeyboardInterrupt(), "interrupted"), (Interrupted("at step 3"), "interrupted")],
)
def test_the_ending_is_that_of_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, ending: str
) -> None:
    recorder = use(monkeypatch, Recorder())
    with pytest.raises(Interrupted if ending == "interrupted" else type(error)):
        train(run, [1], error)
    assert recorder.endings == [ending] == [run.status]


@pytest.mark.parametrize("method", ["open", "log", "close"])
@pytest.mark.parametrize("error", [ConnectionError("no route to host"), SystemExit(1)])
def test_a_failing_tracker_costs_one_sentence_and_one_event(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str, error: BaseException
) -> None:
    use(monkeypatch, Recorder(**{method: error}))
    train(run, range(1, 9))
    assert Run.open(run.uri).status == "finished" and len(Run.open(run.uri).metrics) == 8
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("track: wandb records no more of this run, which goes on without it: ")
    assert [e["reason"] for e in events(run, "track-failed")] == [str(error)]


@pytest.mark.parametrize("method", ["open", "log", "close"])
def test_a_tracker_that_never_answers_delays_only_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    monkeypatch.setattr(track, "NOTICE_S", 0.1)
    monkeypatch.setattr(track, "CLOSE_TIMEOUT_S", 0.2)
    answer = threading.Event()
    use(monkeypatch, Recorder(**{method: answer}))
    try:
        with tracked(run, ["wandb"]), run.active():
            started = time.monotonic()
            for step in range(1, 1001):
                run.log(step, {"loss": 1.0})
            assert time.monotonic() - started < 1.0
            ended = time.monotonic()
        assert 0.2 <= time.monotonic() - ended < 5.0
    finally:
        answer.set()
    assert run.status == "finished" and len(events(run, "track-failed")) == 1
    assert "it was too slow to take all rows before the end" in capsys.readouterr().err


def test_the_other_tracker_goes_on_where_one_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Recorder(log=ConnectionError("gone")))
    sound = Recorder()
    monkeypatch.setitem(TRACKERS, "mlflow", sound)
    with tracked(run, ["wandb", "mlflow"]), run.active():
        run.log(1, {"loss": 1.0})
    assert sound.rows == [(1, {"loss": 1.0})] and sound.endings == ["finished"]


def test_a_resumed_run_goes_on_in_the_same_tracked_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Recorder())
    with pytest.raises(Interrupted):
        train(run, range(1, 6), Interrupted("at step 5"))
    recorder = use(monkeypatch, Recorder(last_step=None))
    train(Run.open(run.uri), range(4, 9))
    assert recorder.ids == ["id-1"]
    assert [step for step, _ in recorder.rows] == [6, 7, 8]
    assert [e["id"] for e in events(run, "tracked")] == ["id-1"]


def test_rows_that_the_tracker_missed_are_sent_when_the_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Recorder())
    with pytest.raises(Interrupted):
        train(run, range(1, 6), Interrupted("at step 5"))
    recorder = use(monkeypatch, Recorder(last_step=2))
    train(Run.open(run.uri), range(4, 9))
    assert [step for step, _ in recorder.rows] == [3, 4, 5, 6, 7, 8]


def test_a_run_that_was_never_tracked_arrives_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Recorder(open=ConnectionError("no route to host")))
    with pytest.raises(Interrupted):
        train(run, range(1, 6), Interrupted("at step 5"))
    recorder = use(monkeypatch, Recorder(last_step=None))
    train(Run.open(run.uri), range(6, 9))
    assert recorder.ids == [None] and [step for step, _ in recorder.rows] == list(range(1, 9))


def test_steps_repeated_by_a_replaced_worker_are_sent_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = use(monkeypatch, Recorder())
    train(run, [1, 2, 3, 2, 3, 4])
    assert [step for step, _ in recorder.rows] == [1, 2, 3, 4]


def test_members_of_an_ensemble_have_curves_of_their_own() -> None:
    assert member_named({"loss": 1.0}) == {"loss": 1.0}
    assert member_named({"loss": 1.0, "validation/loss": 2.0, "member": 2}) == {
        "member-2/loss": 1.0,
        "member-2/validation/loss": 2.0,
    }


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s3://AKIA:se%2Fcret@bucket/runs?region=eu", "s3://bucket/runs"),
        ("API request to http://ada:pa@ss@host:5000/api failed", "API request to http://host:5000/api failed"),
        ("https://host/runs/1?apiKey=abc (retried)", "https://host/runs/1 (retried)"),
        ("runs/sft-1", "runs/sft-1"),
        ("mail ada@example.org", "mail ada@example.org"),
    ],
)
def test_credentials_are_taken_out_of_urls(text: str, plain: str) -> None:
    assert without_credentials(text) == plain


def test_settings_are_sent_without_credentials() -> None:
    settings = {"storage": "s3://key:secret@bucket", "training": {"betas": [0.9, 0.95], "clip_norm": None}}
    assert flat(settings) == {"storage": "s3://bucket", "training.betas": [0.9, 0.95], "training.clip_norm": None}


def test_secrets_of_the_environment_are_never_repeated(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    use(monkeypatch, Recorder(log=PermissionError(f"key {SECRET} refused by https://ada:word@host/x?token=abcdef")))
    train(run, [1])
    assert [e["reason"] for e in events(run, "track-failed")] == ["key *** refused by https://host/x"]
    written = b"".join(path.read_bytes() for path in Path(run.uri).rglob("*") if path.is_file())
    assert SECRET.encode() not in written and SECRET not in capsys.readouterr().err
    assert reason(ValueError()) == "ValueError"


def test_where_a_tracker_shows_the_run_is_said_and_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Recorder(url="https://wandb.example/p/runs/1?apiKey=x"))
    train(run, [1])
    assert capsys.readouterr().err == "track: wandb shows this run at https://wandb.example/p/runs/1\n"
    assert events(run, "tracked")[0]["url"] == "https://wandb.example/p/runs/1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"track": ["comet"]}, r"track\.0: Input should be 'wandb' or 'mlflow', got 'comet'"),
        ({"track": ["wandb", "wandb"]}, "track names a tracker twice, got wandb, wandb: name each once"),
        ({"track_project": "p"}, "track_project does nothing without a tracker: add track"),
        ({"track": ["wandb"], "track_project": ""}, "track_project: String should have at least 1 character"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SFTJob.parse({"model": "preset:tiny", "data": "d.jsonl", **settings})


def test_a_missing_package_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    job = SFTJob(model="preset:tiny", data="d.jsonl", storage=str(tmp_path / "runs"), track=("wandb",))
    with pytest.raises(ConfigError, match=r"^track: wandb needs its package: pip install 'raysafe\[track\]'$"):
        job.run()
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_the_packages_name_is_not_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tracker_of_this_test").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(Recorder, "package", "tracker_of_this_test")
    monkeypatch.setitem(TRACKERS, "wandb", Recorder)
    with pytest.raises(ConfigError, match="wandb needs its package"):
        check_trackers(["wandb"])


def test_a_broken_package_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_tracker.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(Recorder, "package", "broken_tracker")
    monkeypatch.setitem(TRACKERS, "wandb", Recorder)
    with pytest.raises(ConfigError, match="installed, but importing it fails: No module named 'no_such_module'"):
        check_trackers(["wandb"])


def test_the_packages_are_imported_only_when_asked_for(tmp_path: Path) -> None:
    for package in ("wandb", "mlflow"):
        (tmp_path / f"{package}.py").write_text("raise SystemExit('imported')")
    code = "import raysafe.runtime.track"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})


@pytest.mark.ray
def test_an_ensemble_trains_to_its_end_with_a_tracker_that_records_and_one_that_fails(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from raysafe.alignment.reward_model import RewardModelJob

    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / "cache"))
    recorder = use(monkeypatch, Recorder())
    monkeypatch.setitem(TRACKERS, "mlflow", Recorder(log=ConnectionError("gone")))
    pairs = [{"prompt": f"number {i}", "chosen": f"please take {i}", "rejected": f"go away {i}"} for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    run = RewardModelJob(
        model="preset:tiny",
        data=str(tmp_path / "pairs.jsonl"),
        storage=str(tmp_path),
        members=2,
        track=("wandb", "mlflow"),
        training={"max_steps": 3, "batch_size": 8},
    ).run()
    assert run.status == "finished" and run.folder.exists("model/ensemble/1")
    assert [step for step, _ in recorder.rows] == [row["step"] for row in run.metrics] == [1, 2, 3, 4, 5, 6]
    assert all(("member-1/loss" in values) == (step > 3) for step, values in recorder.rows)
    assert recorder.endings == ["finished"] and len(events(run, "track-failed")) == 1


def test_mlflow_reads_back_what_the_run_holds(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra: pip install 'raysafe[track]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    # making the tables of a new database took 38 s beside other work on 2 cores, 2026-11
    monkeypatch.setattr(track, "CLOSE_TIMEOUT_S", 300.0)
    for resumed in (False, True):
        opened = Run.open(run.uri)
        with tracked(opened, ["mlflow"], "toys"), opened.active():
            for step in range(3, 7) if resumed else range(1, 5):
                opened.log(step, {"loss": 1 / step, "validation/loss": float("inf")})
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("toys").experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == run.name
    assert found.data.tags["raysafe.uri"] == run.uri and found.data.tags["raysafe.status"] == "finished"
    assert found.data.params["needs.workers"] == "2" and found.data.params["seed"] == "3"
    losses = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, "loss")]
    assert losses == [(row["step"], row["loss"]) for row in Run.open(run.uri).metrics]
    assert [e["id"] for e in events(run, "tracked")] == [found.info.run_id]


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a .wandb file, which is a LevelDB log; the package's own reader is gone since 0.31."""
    from wandb.proto import wandb_internal_pb2  # type: ignore[import-not-found]

    data, at, record = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part = data[at + 7 : at + 7 + length]
        assert checksum == zlib.crc32(part, zlib.crc32(bytes([kind])))
        at += 7 + length
        record = part if kind in (1, 2) else record + part
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)


def test_wandb_offline_reads_back_what_the_run_holds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra: pip install 'raysafe[track]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    for resumed in (False, True):
        opened = Run.open(run.uri)
        with tracked(opened, ["wandb"], "toys"), opened.active():
            for step in range(3, 7) if resumed else range(1, 5):
                opened.log(step, {"loss": 1 / step, "validation/loss": 0.1})
    files = sorted(run.folder.local_path("wandb").glob("*/run-*.wandb"))
    records = [record for file in files for record in wandb_records(file)]
    (first, *_) = [record.run for record in records if record.run.run_id]
    settings = {item.key or item.nested_key[0]: item.value_json for item in first.config.update}
    assert (first.display_name, first.project, first.job_type, first.notes) == (run.name, "toys", "toy", run.uri)
    assert settings["seed"] == "3" and settings["needs.workers"] == "2"
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            rows.append({"step": values["_step"], "loss": values["loss"], "validation/loss": values["validation/loss"]})
    assert rows == Run.open(run.uri).metrics
    assert {record.run.run_id for record in records if record.run.run_id} == {first.run_id}
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [0, 0]
    written = [path.read_bytes() for path in Path(run.uri).rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in written)
