"""The driver's side: Ray Tune runs the trials that are missing, and a bar tells how far they are."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from raysafe.errors import StorageError
from raysafe.evaluation.sweep.body import follow
from raysafe.evaluation.sweep.ledger import STOPPED, Trial, failures, find_run, read_trial, read_trials
from raysafe.evaluation.sweep.search import plan, scheduler_of, searcher_of
from raysafe.evaluation.sweep.space import label
from raysafe.evaluation.sweep.trial import NUMBER, Order
from raysafe.runtime.bar import Bar
from raysafe.runtime.cluster import cluster_nodes, connect
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import SweepJob

TUNE = "tune"
CLOSE_PATIENCE_S = 20.0
# no CPU, or Tune's processes would keep the trials' workers from starting; but Tune wants something to be taken
_TRIFLE = {"memory": 1.0}
_QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # data files are named from where the sweep was started
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer one prints whatever the verbosity
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


def tune_trials(job: SweepJob, run: Run) -> None:
    """Run the trials that aren't finished; returns when all are, have failed, or were stopped by the scheduler."""
    before = {trial.number: trial for trial in read_trials(job, run)}
    search = plan(job, before)
    if not search.left:
        return
    os.environ.update(_QUIET)
    connect(job.address, needs=job.trial_needs())
    from ray import tune
    from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner

    failed = {number: failures(r) for number in before if (r := find_run(run.uri, number)) is not None}
    order = Order(job, run.uri, failed=failed, replay=job.method == "asha")

    def trial(given: dict[str, Any]) -> None:
        follow(order, given)

    class Told(Callback):
        """Tune's news, for the bar. Tune pickles its callbacks, which a bar can't be."""

        def __init__(self, follower: Follower) -> None:
            self.follower = follower

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.follower.ended(int(trial.config[NUMBER]), completed=True)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.follower.ended(int(trial.config[NUMBER]), completed=False)

    # Tune's own files are of this start alone: what a resume needs is in the trials' runs
    run.folder.remove(TUNE)
    with Bar("sweep", total=search.total, unit="trial") as bar:
        follower = Follower(job, run, bar, {n for n in before if n not in search.left})
        Tuner(
            tune.with_resources(trial, _TRIFLE),
            param_space=search.space,
            tune_config=TuneConfig(
                metric=job.metric,
                mode=job.mode,
                num_samples=search.samples,
                search_alg=searcher_of(job, before),
                scheduler=scheduler_of(job),
                max_concurrent_trials=concurrent_trials(job),
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name=TUNE,
                storage_path=run.folder.path,
                storage_filesystem=run.folder.fs,
                failure_config=FailureConfig(max_failures=job.max_failures),
                callbacks=[Told(follower)],
                verbose=0,
            ),
        ).fit()
        follower.close_stopped(patient=True)
    run.folder.remove(TUNE)


def concurrent_trials(job: SweepJob) -> int:
    """As many as the joined cluster has room for at once, or as the sweep allows; one where a need isn't known."""
    needs = job.trial_needs()
    if needs is None:
        return job.concurrent or 1
    nodes = cluster_nodes()
    room = [
        total / each
        for total, each in (
            (sum(n.cpus * n.count for n in nodes), needs.cpus),
            (sum(n.gpus * n.count for n in nodes), needs.gpus),
        )
        if each
    ]
    places = max(1, int(min(room, default=1)))
    return min(places, job.concurrent or places)


class Follower:
    """Tells of trials as they end, and closes the runs of those that the scheduler stopped."""

    def __init__(self, job: SweepJob, run: Run, bar: Bar, done: set[int]) -> None:
        self.job, self.run, self.bar = job, run, bar
        self.done = set(done)
        self.best: Trial | None = None
        self.open: set[int] = set()
        for number in sorted(done):
            self._compare(self._read(number))
        self.bar.show(len(self.done), self._best())

    def ended(self, number: int, *, completed: bool) -> None:
        """A trial is over; completed: for Tune, which is how one that isn't finished is known to have been stopped."""
        trial = self._read(number)
        self.done.add(number)
        if trial is None:
            self.bar.say(f"trial {number} ended before its run began")
        elif trial.state == "unfinished" and completed:
            self.open.add(number)
        elif trial.state == "unfinished":
            self.bar.say(f"trial {number} ({label(trial.settings)}): its process died more than max_failures times")
        elif trial.state == "failed":
            self.bar.say(f"trial {number} ({label(trial.settings)}) failed: {trial.error}")
        else:
            self._compare(trial)
            value = trial.figures.get(self.job.metric)
            self.bar.say(f"trial {number} ({label(trial.settings)}, seed {trial.seed}): {self.job.metric} {value:.4g}")
        self.close_stopped(patient=False)
        self.bar.show(len(self.done), self._best())

    def close_stopped(self, *, patient: bool) -> None:
        """Note in the runs of stopped trials that they were; patient: wait for one whose process is still ending."""
        deadline = time.monotonic() + (CLOSE_PATIENCE_S if patient else 0.0)
        while self.open:
            self.open = {number for number in self.open if not self._closed(number)}
            if time.monotonic() > deadline:
                return
            time.sleep(0.2)

    def _closed(self, number: int) -> bool:
        run = find_run(self.run.uri, number)
        if run is None:
            return True
        try:
            with run.locked():
                if run.status != "interrupted":
                    run.event("interrupted", why=f"stopped by {self.job.method}")
                run.event(STOPPED)
        except StorageError:
            return False
        self._compare(self._read(number))
        return True

    def _read(self, number: int) -> Trial | None:
        run = find_run(self.run.uri, number)
        return None if run is None else read_trial(self.job, run)

    def _compare(self, trial: Trial | None) -> None:
        if trial is None or self.job.metric not in trial.figures:
            return
        sign = 1 if self.job.mode == "max" else -1
        if self.best is None or sign * (trial.figures[self.job.metric] - self.best.figures[self.job.metric]) > 0:
            self.best = trial

    def _best(self) -> str:
        if self.best is None:
            return ""
        return f"best {self.best.figures[self.job.metric]:.4g} at {label(self.best.settings)}"
