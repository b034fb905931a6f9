"""A trial without Tune: what is told, what a second start repeats, and how a scheduler's stop reaches its run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysafe.data.schema import to_json_lines
from raysafe.data.trajectories import to_table
from raysafe.errors import ConfigError, Interrupted, RaySafeError, TrainingError
from raysafe.evaluation.sweep.body import Body
from raysafe.evaluation.sweep.job import SweepJob
from raysafe.evaluation.sweep.ledger import TRIALS, find_run, folder_name, read_trials
from raysafe.evaluation.sweep.trial import NUMBER, SEED, Order, work
from raysafe.irl.demonstrators import demonstrate
from raysafe.irl.rationality import boltzmann_policy
from raysafe.runtime.run import Run
from tests.irl.problems import grid

METRIC = "irl/value_difference"
GIVEN = {NUMBER: 0, SEED: 3, "gamma": 0.8}


@pytest.fixture
def job(tmp_path: Path) -> SweepJob:
    """A sweep of a job that needs no Ray: a reward learned from demonstrations in a grid."""
    mdp = grid(3)
    rewards_SA = np.zeros((9, 4))
    rewards_SA[8] = 1.0
    arrays = {"transitions": mdp.transitions.toarray().reshape(9, 4, 9), "initial": mdp.initial_S}
    np.savez(tmp_path / "grid.npz", **arrays, rewards=rewards_SA)
    shown = demonstrate(mdp, boltzmann_policy(mdp, rewards_SA, 0.9, 8.0), 8, steps=12, seed=0)
    rows = [{k: v for k, v in row.items() if v is not None} for row in to_table(shown).to_pylist()]
    (tmp_path / "shown.jsonl").write_text(to_json_lines(rows))
    base = {"job": "irl", "method": "maxent", "mdp": str(tmp_path / "grid.npz")}
    base["demonstrations"] = str(tmp_path / "shown.jsonl")
    given: dict[str, Any] = {"base": base, "space": {"gamma": [0.8, 0.9]}, "metric": METRIC, "mode": "min"}
    return SweepJob.parse(given | {"storage": str(tmp_path / "runs")})


class Told(list):
    def __call__(self, step: int, value: float, folder: str | None) -> None:
        self.append((step, value, folder))


def test_a_trial_leaves_its_own_run_and_tells_its_figure(job: SweepJob) -> None:
    sweep, told = Run.create(job), Told()
    work(Order(job, sweep.uri), GIVEN, None, told)
    (trial,) = read_trials(job, sweep)
    assert (trial.state, trial.settings, trial.seed, trial.starts) == ("finished", {"gamma": 0.8}, 3, 1)
    assert told[-1][1] == trial.figures[METRIC] and trial.uri.endswith("trials/trial-0000")


def test_a_finished_trial_is_told_again_and_not_repeated(job: SweepJob) -> None:
    sweep, first, second = Run.create(job), Told(), Told()
    work(Order(job, sweep.uri), GIVEN, None, first)
    work(Order(job, sweep.uri), GIVEN, None, second)
    assert read_trials(job, sweep)[0].starts == 1 and second[-1] == first[-1]


def test_a_trial_that_was_killed_goes_on_in_its_run(job: SweepJob) -> None:
    sweep = Run.create(job)
    killed = Run.create(job.trial_job({"gamma": 0.8}, 3, sweep.folder.join(TRIALS)), folder_name(0))
    killed.event("running")
    work(Order(job, sweep.uri), GIVEN, None, Told())
    assert (trial := read_trials(job, sweep)[0]).state == "finished" and trial.starts == 2


def test_an_error_is_not_tried_again_in_the_same_start_of_the_sweep_but_in_the_next(job: SweepJob) -> None:
    sweep, data = Run.create(job), Path(job.base["demonstrations"])
    kept = data.read_text()
    data.write_text("not a trajectory\n")
    with pytest.raises(RaySafeError):
        work(Order(job, sweep.uri), GIVEN, None, Told())
    data.write_text(kept)
    with pytest.raises(TrainingError, match="DataError"):
        work(Order(job, sweep.uri), GIVEN, None, Told())
    assert read_trials(job, sweep)[0].starts == 1
    work(Order(job, sweep.uri, failed={0: 1}), GIVEN, None, Told())
    assert read_trials(job, sweep)[0].state == "finished"


def test_a_metric_that_is_not_measured_names_those_that_are(job: SweepJob) -> None:
    wrong = job.model_copy(update={"metric": "irl/value_diference"})
    with pytest.raises(ConfigError, match=r"not measured by job 'irl'; it measures .*irl/value_difference"):
        work(Order(wrong, Run.create(wrong).uri), GIVEN, None, Told())


def test_news_waits_until_it_is_taken_and_a_stop_reaches_the_run(job: SweepJob) -> None:
    # value_difference is also a row of this job, told while the trial works
    early = job.model_copy(update={"metric": "value_difference"})
    sweep, body, raised = Run.create(early), Body(), []

    def target() -> None:
        try:
            body.work(Order(early, sweep.uri), GIVEN, None)
        except Interrupted as error:
            raised.append(str(error))

    thread = threading.Thread(target=target)
    thread.start()
    news = body.next()
    assert news is not None and news.step == 1 and thread.is_alive()
    body.stop()
    thread.join(30)
    assert raised == ["the scheduler stopped this trial at step 1"] and body.next() is None
    run = find_run(sweep.uri, 0)
    assert run is not None and run.status == "interrupted"
