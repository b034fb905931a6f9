"""fit() on real Ray workers: ranks agree, dead workers are replaced, bad losses stop, ended runs resume exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from raysafe.config import Job
from raysafe.errors import TrainingError
from raysafe.runtime.fit import Inbox, _follow, fit
from raysafe.runtime.learner import FitConfig
from raysafe.runtime.progress import Progress
from raysafe.runtime.run import Run
from tests.runtime.toys import ToyLearner, counting_rows

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]


class ToyJob(Job):
    job: ClassVar[str] = "toy"


def settings(**changes: Any) -> FitConfig:
    fields = {"epochs": 4, "batch_size": 16, "micro_tokens": 64, "learning_rate": 3e-3, "precision": "float64"}
    return FitConfig(**(fields | changes))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder.local_path("model/model.safetensors"))


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.metrics]


@pytest.fixture(scope="module")
def alone(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One worker, 20 steps of 16 rows in float64, the last step of each epoch smaller."""
    run = Run.create(ToyJob(storage=str(tmp_path_factory.mktemp("alone"))))
    fit(ToyLearner(), run, settings(), train=counting_rows(75), validation=counting_rows(20, seed=1))
    return run


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_workers_equal_one_with_the_same_global_batch(alone: Run, tmp_path: Path, sharding: str) -> None:
    run = Run.create(ToyJob(storage=str(tmp_path)))
    config = settings(workers=2, sharding=sharding)
    fit(ToyLearner(), run, config, train=counting_rows(75), validation=counting_rows(20, seed=1))
    assert len(losses(run)) == 20
    assert losses(run) == pytest.approx(losses(alone), rel=1e-9)
    for key in ("validation/loss", "validation/accuracy", "gradient_norm"):
        assert run.metrics[-1][key] == pytest.approx(alone.metrics[-1][key], rel=1e-9)


def test_two_float32_workers_take_the_first_step_of_one(ray_cluster: None, alone: Run, tmp_path: Path) -> None:
    run = Run.create(ToyJob(storage=str(tmp_path)))
    fit(ToyLearner(), run, settings(workers=2, precision="float32", max_steps=1), train=counting_rows(75))
    assert losses(run)[0] == pytest.approx(losses(alone)[0], rel=1e-5)
    assert run.metrics[0]["gradient_norm"] == pytest.approx(alone.metrics[0]["gradient_norm"], rel=1e-5)


def test_training_lowers_the_held_out_loss_but_not_that_of_shuffled_tokens(alone: Run) -> None:
    held_out = counting_rows(50, seed=2)
    rng = np.random.default_rng(0)
    shuffled = held_out.set_column(0, "tokens", pa.array([rng.permutation(31).tolist()[:8] for _ in range(50)]))
    gains = []
    for rows in (held_out, shuffled):
        before, after = ToyLearner().build(), ToyLearner().build()
        after.load_state_dict(weights(alone), strict=False)
        batch = ToyLearner().collate(rows)
        with torch.no_grad():
            losses_of = [float(ToyLearner().loss(m, batch)[0] / batch.weight) for m in (before, after)]
        gains.append(losses_of[0] - losses_of[1])
    assert gains[0] > 0.2
    assert gains[1] < 0.05


def test_a_killed_worker_is_replaced_and_training_goes_on_from_the_checkpoint(
    ray_cluster: None, alone: Run, tmp_path: Path
) -> None:
    run = Run.create(ToyJob(storage=str(tmp_path)))
    learner = ToyLearner(die_once=str(tmp_path / "died"), die_at_call=30, seconds=0.05)
    fit(learner, run, settings(checkpoint_every=3), train=counting_rows(75), validation=counting_rows(20, seed=1))
    assert (tmp_path / "died").exists()
    resumed = [e for e in run.events if e["event"] == "resumed"]
    assert len(resumed) == 1
    assert 0 < resumed[0]["step"] < 20
    assert losses(run) == losses(alone)
    expected = weights(alone)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(run).items())


def test_a_loss_that_is_not_a_number_stops_naming_the_rows_and_keeps_the_last_checkpoint(
    ray_cluster: None, tmp_path: Path
) -> None:
    run = Run.create(ToyJob(storage=str(tmp_path)))
    rows = counting_rows(75)
    # token 31 opens just one row, number 40
    tokens = [[1 + t % 30 for t in row] for row in rows["tokens"].to_pylist()]
    tokens[40][0] = 31
    rows = rows.set_column(0, "tokens", pa.array(tokens))
    with pytest.raises(TrainingError, match=r"step \d+: loss nan .* data rows .*\b40\b") as raised:
        fit(ToyLearner(poison=31), run, settings(checkpoint_every=1, epochs=1, micro_tokens=8), train=rows)
    step = int(str(raised.value).split()[1].rstrip(":"))
    saved = [name for name in os.listdir(run.folder.local_path("checkpoints")) if name.startswith("step-")]
    assert step == 1 or f"step-{step - 1:08d}" in saved
    assert f"step-{step:08d}" not in saved


def test_early_stopping_keeps_the_best_model(ray_cluster: None, tmp_path: Path) -> None:
    run = Run.create(ToyJob(storage=str(tmp_path)))
    # a learning rate this high overshoots: the best validation is not the last
    config = settings(learning_rate=0.5, evaluate_every=1, patience=3, schedule="constant", epochs=20)
    result = fit(ToyLearner(), run, config, train=counting_rows(75), validation=counting_rows(20, seed=1))
    assert result.stopped_early
    assert result.best_step is not None and result.best_step == result.steps - 3
    validation = {row["step"]: row["validation/loss"] for row in run.metrics if "validation/loss" in row}
    assert result.best == min(validation.values()) == validation[result.best_step]
    module = ToyLearner().build()
    module.load_state_dict(weights(run), strict=False)
    batch = ToyLearner().collate(counting_rows(20, seed=1))
    with torch.no_grad():
        loss = ToyLearner().loss(module, batch)[0] / batch.weight
    assert loss.item() == pytest.approx(result.best, rel=1e-5)


SCRIPT = """
import sys
from tests.runtime.test_fit import ToyJob, settings
from tests.runtime.toys import ToyLearner, counting_rows
from raysafe.errors import RaySafeError
from raysafe.runtime.fit import fit
from raysafe.runtime.run import Run
run = Run.open(sys.argv[1])
try:
    with run.active():
        fit(ToyLearner(seconds=0.2), run, settings(precision="float32", checkpoint_every=2), train=counting_rows(75))
except RaySafeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def start(run: Run, address: str) -> subprocess.Popen[str]:
    """The script on a Ray that runs already, or, without an address, on one of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, run.uri], env=environment, stdout=subprocess.PIPE, text=True)


def wait_for_checkpoint(run: Run, process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    snapshot = run.folder.local_path("checkpoints/checkpoint_manager_snapshot.json")
    while not snapshot.exists():
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def address(ray_cluster: None) -> str:
    import ray

    return ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def undisturbed(address: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(ToyJob(storage=str(tmp_path_factory.mktemp("undisturbed"))))
    assert start(run, address).wait(180) == 0
    return run


@pytest.mark.parametrize(
    ("sign", "code", "own_ray"),
    [(signal.SIGKILL, -signal.SIGKILL, True), (signal.SIGINT, 130, False), (signal.SIGTERM, 130, False)],
)
def test_a_run_ended_in_the_middle_and_resumed_has_the_weights_of_one_never_ended(
    undisturbed: Run, address: str, tmp_path: Path, sign: signal.Signals, code: int, own_ray: bool
) -> None:
    where = "" if own_ray else address
    run = Run.create(ToyJob(storage=str(tmp_path)))
    process = start(run, where)
    wait_for_checkpoint(run, process)
    process.send_signal(sign)
    assert process.wait(60) == code
    ended = Run.open(run.uri)
    assert ended.status == ("running" if sign == signal.SIGKILL else "interrupted")
    assert not ended.folder.exists("model")
    assert start(run, where).wait(180) == 0
    resumed = Run.open(run.uri)
    assert next(e["step"] for e in resumed.events if e["event"] == "resumed") > 0
    expected = weights(undisturbed)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(resumed).items())
    assert losses(resumed) == losses(Run.open(undisturbed.uri))


def test_progress_after_a_resume_starts_behind_the_resumed_step(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    run = Run.create(ToyJob(storage=str(tmp_path)))
    inbox: Any = ray.remote(num_cpus=0)(Inbox).remote()
    ray.get(inbox.note.remote("resumed", {"step": 26, "workers": 1}))
    ray.get(inbox.put.remote([{"step": step, "loss": 1.0} for step in (25, 26, 27, 28)], 280))
    done, shown = threading.Event(), []
    done.set()
    monkeypatch.setattr(Progress, "show", lambda self, step, total, row: shown.append(step))
    with Progress(run, "toy") as progress:
        _follow(done, inbox, run, progress, 0)
    assert shown == [27, 28]
    assert [row["step"] for row in run.metrics] == [25, 26, 27, 28]


def test_a_disk_that_refuses_tensorboards_file_costs_an_event_and_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run.create(ToyJob(storage=str(tmp_path)))
    with Progress(run, "toy") as progress:
        (file,) = run.folder.local_path("tensorboard").iterdir()
        file.unlink()
        file.symlink_to("/dev/full")
        for step in (1, 2):
            progress.record(step, {"loss": 1.0})
    (event,) = [e for e in Run.open(run.uri).events if e["event"] == "tensorboard-failed"]
    assert "No space left on device" in event["reason"]
    told = capfd.readouterr().err
    assert told.count("TensorBoard gets no more rows") == 1
    assert "Traceback" not in told


def test_tensorboards_file_holds_every_row(tmp_path: Path) -> None:
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    run = Run.create(ToyJob(storage=str(tmp_path)))
    with Progress(run, "toy") as progress:
        for step in (1, 2):
            progress.record(step, {"loss": step / 2, "validation/loss": 3.0})
    (file,) = run.folder.local_path("tensorboard").iterdir()
    data, events = file.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        body = data[12 : 12 + length]
        assert int.from_bytes(data[8:12], "little") == masked_crc32c(data[:8])
        assert int.from_bytes(data[12 + length : 16 + length], "little") == masked_crc32c(body)
        events.append(event_pb2.Event.FromString(body))  # pyright: ignore[reportAttributeAccessIssue]
        data = data[16 + length :]
    rows = [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events[1:]]
    assert events[0].file_version == "brain.Event:2"
    assert rows == [(1, {"loss": 0.5, "validation/loss": 3.0}), (2, {"loss": 1.0, "validation/loss": 3.0})]


DYING = """
import os, time
import ray
from raysafe.runtime.cluster import connect
connect()
@ray.remote(max_retries=0)
def die():
    os._exit(1)
try:
    ray.get(die.remote())
except ray.exceptions.WorkerCrashedError:
    time.sleep(2)
    print("it died")
"""


def test_rays_notes_on_dead_workers_stay_off_the_output() -> None:
    environment = os.environ | {"RAY_ADDRESS": ""}
    ended = subprocess.run([sys.executable, "-c", DYING], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "it died\n"
