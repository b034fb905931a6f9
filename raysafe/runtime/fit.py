"""fit(): train any Learner on Ray Train.

This is the driver's side: it starts the workers (loop.py), writes the run, shows progress and takes Ctrl-C.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raysafe.errors import DataError, Interrupted, RaySafeError, StorageError, TrainingError
from raysafe.runtime.cluster import connect
from raysafe.runtime.learner import FitConfig, Learner
from raysafe.runtime.progress import Progress
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

POLL_INTERVAL_S = 0.3
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class FitResult:
    """How training ended."""

    steps: int
    best: float | None
    best_step: int | None
    stopped_early: bool
    metrics: dict[str, Any]
    """The last row of each figure."""


class Inbox:
    """Ray actor between rank 0 and the driver: rows and events one way, the wish to stop the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.total_steps: int | None = None
        self.written_step = 0
        self.stop = False
        self.outcome: dict[str, Any] | None = None
        self.error: RaySafeError | None = None

    def put(self, rows: list[dict[str, Any]], total_steps: int) -> tuple[bool, int]:
        """Take rows; says whether to stop, and up to which step rows are safe in metrics.parquet."""
        self.rows.extend(rows)
        self.total_steps = total_steps
        return self.stop, self.written_step

    def wrote(self, step: int) -> None:
        self.written_step = step

    def note(self, event: str, fields: dict[str, Any]) -> None:
        self.events.append((event, fields))

    def finish(self, outcome: dict[str, Any]) -> None:
        self.outcome = outcome

    def fail(self, error: RaySafeError) -> None:
        self.error = self.error or error

    def request_stop(self) -> None:
        self.stop = True

    def drain(self) -> tuple[list[dict[str, Any]], list[tuple[str, dict[str, Any]]], int | None]:
        rows, self.rows = self.rows, []
        events, self.events = self.events, []
        return rows, events, self.total_steps

    def end(self) -> tuple[dict[str, Any] | None, RaySafeError | None]:
        return self.outcome, self.error


def fit(
    learner: Learner,
    run: Run,
    config: FitConfig,
    *,
    train: pa.Table,
    validation: pa.Table | None = None,
    seed: int = 0,
    address: str | None = None,
    member: int = 0,
    target: str | None = None,
) -> FitResult:
    """Train `learner` on the rows of `train` and leave the best model in the run's model/, or in `target`.

    Of an ensemble, member 0 is model/ itself and member k lies in model/ensemble/k; their steps are counted on, and
    so they are in other trainings that follow one another. target: where in the run the model goes instead.

    Tables carry an int column `length`: the tokens that a row costs. A run that has checkpoints goes on from the last.
    Raises DataError without rows, ResourceError before anything starts, TrainingError when training can't go on,
    Interrupted after Ctrl-C, with a checkpoint kept in both cases.
    """
    if train.num_rows == 0:
        raise DataError("there are no training rows: check the data file and the split fractions")
    connect(address, needs=config.needs)
    import ray

    from raysafe.runtime.loop import Order

    inbox: Any = ray.remote(num_cpus=0)(Inbox).remote()
    order = Order(
        learner=learner,
        config=config,
        seed=seed,
        run_uri=run.uri,
        target=target or (f"model/ensemble/{member}" if member else "model"),
        inbox=inbox,
        train=[ray.put(train.combine_chunks())],
        validation=[ray.put(validation.combine_chunks())] if validation is not None and validation.num_rows else [],
    )
    trainer = _trainer(order, run, config, f"{CHECKPOINTS}-{member}" if member else CHECKPOINTS)
    failure: list[BaseException] = []
    done = threading.Event()

    def train_on() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    threading.Thread(target=train_on, name="ray-train", daemon=True).start()
    with Progress(run, _title(run)) as progress:
        _follow(done, inbox, run, progress, member)
    outcome, error = ray.get(inbox.end.remote())
    ray.kill(inbox)
    if error is not None:
        raise error
    if failure:
        raise _explained(failure[0], run) from failure[0]
    if outcome is None:
        raise TrainingError(
            f"the workers ended without a result; look at {run.uri}/events.jsonl, then: raysafe runs resume {run.uri}"
        )
    if outcome["status"] == "stopped":
        raise Interrupted(
            f"stopped at step {outcome['step']} with a checkpoint; go on with: raysafe runs resume {run.uri}"
        )
    run.event("trained", **{k: v for k, v in outcome.items() if k != "status"})
    return FitResult(outcome["step"], outcome["best"], outcome["best_step"], outcome["early"], _last_figures(run))


def _follow(done: threading.Event, inbox: Any, run: Run, progress: Progress, member: int) -> None:
    """Move rows from the workers to the run until training ends; the first Ctrl-C asks for a checkpoint and an end."""
    import ray

    before = max((row["step"] for row in run.metrics if row.get("member", 0) < member), default=0)
    asked = False
    ended = False
    flushed = run.flushed_step
    resumed = 0
    while not ended:
        try:
            # not Thread.join: a Ctrl-C inside it marks a running thread as ended in CPython 3.11
            ended = done.wait(POLL_INTERVAL_S)
            rows, events, total = ray.get(inbox.drain.remote())
            for event, fields in events:
                run.event(event, **fields)
                # the rows up to there are told again: they belong in the files, but are no progress
                resumed = fields["step"] if event == "resumed" else resumed
            for row in rows:
                step = row.pop("step")
                run.log(before + step, row | ({"member": member} if member else {}))
                progress.record(step, row)
                if step > resumed:
                    progress.show(step, total, row)
            if run.flushed_step != flushed:
                flushed = run.flushed_step
                inbox.wrote.remote(flushed - before)
        except KeyboardInterrupt:
            if asked:
                raise
            asked = True
            progress.say("stopping after this step, with a checkpoint (Ctrl-C again to stop at once)")
            inbox.request_stop.remote()
    run.flush()


def _trainer(order: Any, run: Run, config: FitConfig, name: str) -> TorchTrainer:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from raysafe.runtime.loop import work

    resources = {"CPU": config.cpus_per_worker} | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {})
    return TorchTrainer(
        work,
        train_loop_config={"order": order},
        torch_config=TorchConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=config.gpus_per_worker > 0, resources_per_worker=resources
        ),
        # the same name and path as an earlier start of this run: Ray Train then resumes from its last checkpoint
        run_config=RunConfig(
            name=name,
            storage_path=run.folder.path,
            storage_filesystem=run.folder.fs,
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=config.keep_checkpoints, checkpoint_score_attribute="score", checkpoint_score_order="max"
            ),
        ),
    )


def _explained(error: BaseException, run: Run) -> RaySafeError:
    """A sentence for what ended Ray Train."""
    causes = [error, *getattr(error, "worker_failures", {}).values()]
    text = " ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return StorageError(
            f"the disk that holds {run.uri} is full: free some space, then: raysafe runs resume {run.uri}"
        )
    if "Permission denied" in text or "Read-only file system" in text:
        return StorageError(f"no permission to write to {run.uri}: choose another --storage")
    if "died" in text or "ActorDied" in text or "WorkerGroupStartup" in text:
        return TrainingError(
            f"workers died more than training.max_failures times (memory? lower training.micro_tokens); "
            f"checkpoints are kept, go on with: raysafe runs resume {run.uri}"
        )
    last = str(causes[-1]).strip().splitlines()[-1] if str(causes[-1]).strip() else type(causes[-1]).__name__
    return TrainingError(f"a worker failed: {last}; after mending it, go on with: raysafe runs resume {run.uri}")


def _title(run: Run) -> str:
    return str(run.config.get("job", "training"))


def _last_figures(run: Run) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for row in run.metrics:
        figures |= row
    return figures
