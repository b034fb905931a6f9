"""A trial's life: its job, or what is missing of it, the suites that judge its model, and what is told meanwhile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysafe.config import Job
from raysafe.errors import ConfigError, StorageError, TrainingError
from raysafe.evaluation.job import EvaluateJob
from raysafe.evaluation.sweep.ledger import (
    EXAMINED,
    TRIALS,
    failures,
    figures_of,
    find_run,
    folder_name,
    state_of,
)
from raysafe.evaluation.sweep.population import Handover
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import SweepJob

Tell = Callable[[int, float, str | None], None]
"""Takes the step and value of a row that is compared, and the folder of a checkpoint that goes with it."""
LOCK_PATIENCE_S = 60.0
NUMBER, SEED = "number", "trial_seed"
"""Keys of what Tune hands a trial, besides the fields of the space."""


@dataclass(frozen=True)
class Order:
    """What the driver hands every trial."""

    job: SweepJob
    uri: str
    """The sweep's folder."""
    failed: Mapping[int, int] = field(default_factory=dict)
    """How often each trial had failed before this start of the sweep: these are tried once more."""
    replay: bool = False
    """Whether the scheduler needs the rows that trials logged before this start."""


def work(order: Order, given: Mapping[str, Any], checkpoint: str | None, tell: Tell) -> None:
    """Train and examine one trial, or as much of it as is missing; tells its figures as they come.

    checkpoint: folder of one that the scheduler hands over. Raises what ended the trial, once it is kept in its run.
    """
    job, number = order.job, int(given[NUMBER])
    settings = {name: given[name] for name in job.space}
    trial = job.trial_job(settings, int(given[SEED]), Folder(order.uri).join(TRIALS))
    run = find_run(order.uri, number) or Run.create(trial, folder_name(number))
    _wait_for_its_last_driver(run)
    run = Run.open(run.uri)
    handover = Handover.of(job, run)
    if handover is not None:
        handover.take_over(trial, checkpoint)
    teller = Teller(job, run, tell, handover)
    if order.replay:
        teller.replay()
    if state_of(run, len(job.examine)) == "stopped":
        return
    if failures(run) > order.failed.get(number, 0):
        # Tune starts again what fails: for a process that died, not for an error that would come again
        raise TrainingError(next(str(e.get("error")) for e in reversed(run.events) if e["event"] == "failed"))
    if run.status != "finished":
        run.watchers.append(teller.told)
        trial.run(resume=run)
    _examine(job, trial, run)
    teller.end()


class Teller:
    """Tells the rows that hold the sweep's metric, each step once."""

    def __init__(self, job: SweepJob, run: Run, tell: Tell, handover: Handover | None) -> None:
        self.job, self.run, self.tell, self.handover = job, run, tell, handover
        self.step = -1

    def told(self, step: int, row: Mapping[str, float]) -> None:
        """A row of the run, as it is logged; raises Interrupted where the scheduler wants no more of it."""
        if self.job.metric not in row or step <= self.step:
            return
        value = float(row[self.job.metric])
        if self.handover is None:
            self.step = step
            self.tell(step, value, None)
            return
        with tempfile.TemporaryDirectory(prefix="raysafe-handover-") as folder:
            given = self.handover.give(Path(folder))
            if given is not None:
                self.step = step
                self.tell(given, value, folder)

    def replay(self) -> None:
        """The rows that were logged before: a scheduler that starts anew decides by them as it did."""
        for row in self.run.metrics:
            self.told(int(row["step"]), row)

    def end(self) -> None:
        """The figures that the trial is judged by; raises ConfigError where the metric isn't one of them."""
        figures = figures_of(self.run)
        if self.job.metric not in figures:
            raise ConfigError(
                f"metric '{self.job.metric}' is not measured by job '{self.job.base['job']}'; it measures "
                f"{', '.join(sorted(figures))}"
            )
        if self.job.asha is not None and self.step < 0:
            raise ConfigError(
                f"asha compares trials while they train, and '{self.job.metric}' is known only at their end: "
                "give a metric of training, or use method random"
            )
        self.tell(max(self.step, 0), figures[self.job.metric], None)


def _examine(job: SweepJob, trial: Job, run: Run) -> None:
    """Judge the trial's model by each suite that hasn't yet; the evidence is kept in the trial's run as well."""
    done = sum(event["event"] == "examined-by" for event in run.events)
    for index, values in enumerate(job.examine):
        if index < done:
            continue
        own = {n: v.replace("{run}", run.uri) if isinstance(v, str) else v for n, v in values.items()}
        settings = {"model": run.folder.join("model"), "store": job.store, "seed": trial.seed} | own
        examination = EvaluateJob.parse({**settings, "storage": run.folder.join(EXAMINED)}, "examine")
        label = f"{index}-{examination.suite}"
        uri = Folder(examination.storage).join(label)
        found = Run.open(uri) if Folder(uri).exists("config.yaml") else Run.create(examination, label)
        if found.status != "finished":
            examination.run(resume=found)
        known = {(e.suite, e.metric, e.run) for e in run.evidence}
        run.add_evidence(e for e in found.evidence if (e.suite, e.metric, e.run) not in known)
        run.event("examined-by", suite=examination.suite, run=found.uri)


def _wait_for_its_last_driver(run: Run) -> None:
    """A trial's process may outlive a killed driver by moments; raises StorageError where it goes on for longer."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            # a Run that was refused writes nothing more: one for each try
            with Run.open(run.uri).locked():
                return
        except StorageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
