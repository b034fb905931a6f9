"""How trials of a population hand their training on: by the checkpoints of fit(), with the run that they belong to.

A donor copies its last complete checkpoint, and its rows up to there, into a checkpoint of Tune's. Who takes over
replaces its own checkpoints and rows by these, and its settings by the ones that the scheduler moved away from the
donor's; fit() then goes on from that step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysafe.config import Job
from raysafe.runtime.fit import CHECKPOINTS
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import SweepJob

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of the checkpoints that are complete."""
DONOR = "donor.json"


class Handover:
    """One trial's side of it."""

    def __init__(self, job: SweepJob, run: Run) -> None:
        assert job.population is not None
        self.run, self.every = run, job.population.every_steps
        self.given = 0
        """Step of the last checkpoint that was handed to Tune."""

    @classmethod
    def of(cls, job: SweepJob, run: Run) -> Handover | None:
        """None for methods without a population."""
        return cls(job, run) if job.population is not None else None

    def give(self, folder: Path) -> int | None:
        """Copy the newest checkpoint into `folder`, where a comparison is due; its step, or None where none is.

        Ray Train writes checkpoints while training goes on, so that the newest complete one may be of an older step.
        """
        newest = self._newest()
        if newest is None or newest[0] // self.every <= self.given // self.every:
            return None
        at, name, snapshot = newest
        self.run.folder.download(f"{CHECKPOINTS}/{name}", folder / CHECKPOINTS / name)
        (folder / CHECKPOINTS / SNAPSHOT).write_text(json.dumps(snapshot))
        rows = [row for row in self.run.metrics if row["step"] <= at]
        (folder / DONOR).write_text(json.dumps({"run": self.run.uri, "step": at, "rows": rows}))
        self.given = at
        return at

    def take_over(self, trial: Job, checkpoint: str | None) -> None:
        """Go on from the checkpoint that the scheduler hands over, with the trial's new settings.

        A trial that gets back its own checkpoint, after it was paused, keeps what it has.
        """
        if checkpoint is None:
            self.given = (self._newest() or (0,))[0]
            return
        folder = Path(checkpoint)
        donor = json.loads((folder / DONOR).read_text())
        self.given = donor["step"]
        if donor["run"] == self.run.uri:
            return
        with self.run.locked():
            self.run.folder.remove(CHECKPOINTS)
            self.run.folder.upload(folder / CHECKPOINTS, CHECKPOINTS)
            self.run.folder.write("config.yaml", trial.to_yaml())
            self.run.replace_metrics(donor["rows"])
            self.run.event("took-over", donor=donor["run"], step=donor["step"])

    def _newest(self) -> tuple[int, str, dict[str, Any]] | None:
        """Step and name of the newest complete checkpoint, and a list that holds it alone."""
        if not self.run.folder.exists(f"{CHECKPOINTS}/{SNAPSHOT}"):
            return None
        listed = json.loads(self.run.folder.read(f"{CHECKPOINTS}/{SNAPSHOT}"))
        latest = listed.get("latest_checkpoint_result")
        if latest is None:
            return None
        index = [r["checkpoint_dir_name"] for r in listed["checkpoint_results"]].index(latest["checkpoint_dir_name"])
        alone = listed | {
            "checkpoint_results": [latest],
            "checkpoint_report_indices": [listed["checkpoint_report_indices"][index]],
            "pending_training_results": [],
            "pending_validation_specs": [],
        }
        return int(latest["metrics"]["step"]), latest["checkpoint_dir_name"], alone
