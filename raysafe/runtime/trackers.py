"""Trackers: where a run's rows may go besides its own directory. One protocol, and W&B and MLflow behind it.

Their packages are imported in the driver, when a job asks for them. Credentials are their own affair (`wandb login`,
WANDB_API_KEY, MLFLOW_TRACKING_URI, …): RaySafe has no setting for them and keeps none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from raysafe.errors import ConfigError

# read when the packages are imported: no reports about their use to their makers, no chatter in the driver
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

TrackerName = Literal["wandb", "mlflow"]
Ending = Literal["finished", "failed", "interrupted"]
Row = tuple[int, dict[str, float]]
"""A step and its figures."""

DEFAULT_PROJECT = "raysafe"
CLOSE_TIMEOUT_S = 30.0
"""How long the end of a run waits for its trackers, all of them together."""
MLFLOW_BATCH = {"metrics": 1000, "params": 100}
"""Most items that an MLflow server takes at once."""


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run."""

    name: str
    uri: str
    job: str
    settings: dict[str, Any]
    """The job's settings, those of a nested one as outer.inner."""
    project: str | None
    folder: Path | None
    """The run's directory, where it is on this machine's disk."""


@dataclass(frozen=True)
class Opened:
    """A run as its tracker knows it."""

    id: str
    url: str | None = None
    last_step: int | None = 0
    """The last that the tracker has: later ones are sent, also those of an earlier start. None where it can't tell."""


class Tracker(Protocol):
    """Any method may block or raise: all are called from one thread that training doesn't wait for."""

    package: ClassVar[str]

    def open(self, about: About, id: str | None) -> Opened:
        """Start a tracked run, or go on with the one of this id."""
        ...

    def log(self, rows: Sequence[Row]) -> None:
        """Send rows, in the order of their steps."""
        ...

    def close(self, ending: Ending) -> None:
        """Send what is left and say how the run ended."""
        ...


class WandbTracker:
    """Weights & Biases. Its own files lie in the run's wandb/, or where WANDB_DIR says: `wandb sync` reads those."""

    package: ClassVar[str] = "wandb"

    def open(self, about: About, id: str | None) -> Opened:
        """Offline, what goes on is a second file of the same id, which `wandb sync` adds to the first."""
        wandb: Any = import_module("wandb")
        # silent: no banners, and an error instead of a question where nobody has logged in
        wandb.setup(wandb.Settings(silent=True))
        self.run = wandb.init(
            project=about.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
            id=id,
            resume="allow" if id else None,
            name=about.name,
            job_type=about.job,
            notes=about.uri,
            config=about.settings | {"run": about.name, "uri": about.uri},
            dir=None if about.folder is None or "WANDB_DIR" in os.environ else str(about.folder),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                symlink=False,
                # W&B holds up the end of the process for as long
                init_timeout=CLOSE_TIMEOUT_S,
                finish_timeout=CLOSE_TIMEOUT_S,
                # what it would note of the command line and of git's remote may hold a password
                x_disable_meta=True,
                disable_git=True,
            ),
        )
        if self.run.offline:
            return Opened(self.run.id, last_step=None)
        # a run that goes on counts from the step after its last
        return Opened(self.run.id, self.run.url, max(self.run.step - 1, 0))

    def log(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self.run.log(values, step=step, commit=True)

    def close(self, ending: Ending) -> None:
        self.run.summary["status"] = ending
        # 255 is what W&B itself gives a run that Ctrl-C ended
        self.run.finish(exit_code={"finished": 0, "failed": 1, "interrupted": 255}[ending])


class MlflowTracker:
    """MLflow, at MLFLOW_TRACKING_URI: a server or a database file."""

    package: ClassVar[str] = "mlflow"

    def open(self, about: About, id: str | None) -> Opened:
        mlflow: Any = import_module("mlflow")
        self.entities: Any = import_module("mlflow.entities")
        self.client = mlflow.MlflowClient()
        if id is not None:
            self.id = id
            self.client.update_run(id, status="RUNNING")
            names = self.client.get_run(id).data.metrics
            steps = [point.step for name in names for point in self.client.get_metric_history(id, name)]
            return Opened(id, last_step=max(steps, default=0))
        project = about.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_PROJECT
        found = self.client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self.client.create_experiment(project)
        tags = {"raysafe.run": about.name, "raysafe.uri": about.uri, "raysafe.job": about.job}
        self.id = self.client.create_run(experiment, run_name=about.name, tags=tags).info.run_id
        self._send("params", [self.entities.Param(name, str(value)) for name, value in about.settings.items()])
        return Opened(self.id)

    def log(self, rows: Sequence[Row]) -> None:
        now_ms, metric = int(time.time() * 1000), self.entities.Metric
        self._send("metrics", [metric(name, v, now_ms, step) for step, values in rows for name, v in values.items()])

    def close(self, ending: Ending) -> None:
        self.client.set_tag(self.id, "raysafe.status", ending)
        status = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}[ending]
        self.client.set_terminated(self.id, status=status)

    def _send(self, kind: Literal["metrics", "params"], items: list[Any]) -> None:
        size = MLFLOW_BATCH[kind]
        for start in range(0, len(items), size):
            self.client.log_batch(self.id, **{kind: items[start : start + size]})


TRACKERS: dict[TrackerName, type[Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Import what the trackers need, before anything starts; raises ConfigError where that is missing or broken."""
    for name in names:
        package = TRACKERS[name].package
        try:
            module = import_module(package)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == package:
                module = None
            else:
                raise ConfigError(f"track: {name} is installed, but importing it fails: {error}") from None
        # a folder of this name where the job was started, such as W&B makes, is importable too, but has no file
        if getattr(module, "__file__", None) is None:
            raise ConfigError(f"track: {name} needs its package: pip install 'raysafe[track]'")
