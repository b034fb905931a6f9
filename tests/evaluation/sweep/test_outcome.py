"""What a sweep comes to: read from runs of its trials, without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysafe.errors import ConfigError
from raysafe.evaluation.sweep.job import SweepJob
from raysafe.evaluation.sweep.ledger import TRIALS, folder_name, read_trials
from raysafe.evaluation.sweep.outcome import best_point, finish, front_of, points_of
from raysafe.evaluation.sweep.report import PARETO, trial_rows, write_sweep_report
from raysafe.evaluation.sweep.search import plan
from raysafe.runtime.run import Run

BASE = {"job": "dpo", "model": "preset:tiny", "data": "rows.jsonl"}


def sweep(storage: Path, **fields) -> SweepJob:
    given = {"base": BASE, "space": {"beta": [0.1, 0.2, 0.4]}, "metric": "accuracy", "storage": str(storage)}
    return SweepJob.parse(given | fields)


def add_trial(job: SweepJob, run: Run, number: int, beta: float, rows, *, seed: int = 0, end: str = "finished") -> Run:
    """A trial's run as its process would have left it."""
    trial = Run.create(job.trial_job({"beta": beta}, seed, run.folder.join(TRIALS)), folder_name(number))
    trial.event("running")
    for step, row in enumerate(rows, start=1):
        trial.log(step, row)
    trial.flush()
    if end:
        trial.event(end, **({"error": "TrainingError: diverged"} if end == "failed" else {}))
    return trial


def test_only_unfinished_trials_are_left_to_do(tmp_path: Path) -> None:
    job = sweep(tmp_path)
    run = Run.create(job)
    add_trial(job, run, 0, 0.1, [{"accuracy": 0.5}])
    add_trial(job, run, 2, 0.4, [{"accuracy": 0.5}], end="")
    found = plan(job, {trial.number: trial for trial in read_trials(job, run)})
    assert found.left == {1, 2} and found.total == 3


def test_a_failed_trial_is_tried_again_and_told_with_its_reason(tmp_path: Path) -> None:
    job = sweep(tmp_path)
    run = Run.create(job)
    add_trial(job, run, 1, 0.2, [], end="failed")
    (trial,) = read_trials(job, run)
    assert (trial.state, trial.error) == ("failed", "TrainingError: diverged")
    assert 1 in plan(job, {1: trial}).left


def test_a_folder_that_a_kill_left_empty_is_no_trial(tmp_path: Path) -> None:
    job = sweep(tmp_path)
    run = Run.create(job)
    run.folder.local_path(f"{TRIALS}/{folder_name(0)}").mkdir(parents=True)
    assert read_trials(job, run) == []


def test_a_trial_is_judged_by_the_validation_of_the_model_that_was_kept(tmp_path: Path) -> None:
    job = sweep(tmp_path, metric="validation/accuracy")
    run = Run.create(job)
    rows = [{"validation/accuracy": value, "loss": 1 - value} for value in (0.6, 0.9, 0.7)]
    add_trial(job, run, 0, 0.1, rows, end="").event("trained", best_step=2)
    (trial,) = read_trials(job, run)
    assert trial.figures["validation/accuracy"] == 0.9 and trial.figures["loss"] == pytest.approx(0.3)


def test_the_rule_takes_the_best_mean_over_seeds_within_its_bounds(tmp_path: Path) -> None:
    best = {"name": "tied", "at_most": {"kl": 1.0}}
    job = sweep(tmp_path, seeds=[0, 1], best=best)
    run = Run.create(job)
    # beta 0.1 is better but breaks the bound; one seed of 0.4 is luckier, its mean is lower
    found = {0.1: ((0.9, 0.9), 2.0), 0.2: ((0.7, 0.8), 0.5), 0.4: ((0.85, 0.6), 0.4)}
    for point, (beta, (accuracies, kl)) in enumerate(found.items()):
        for seed, accuracy in enumerate(accuracies):
            add_trial(job, run, 2 * point + seed, beta, [{"accuracy": accuracy, "kl": kl}], seed=seed)
    point = best_point(job, points_of(read_trials(job, run)))
    assert point is not None and point.settings == {"beta": 0.2}
    assert point.figures["accuracy"] == pytest.approx(0.75)


def test_a_bound_on_what_is_not_measured_is_an_error(tmp_path: Path) -> None:
    job = sweep(tmp_path, best={"name": "tied", "at_most": {"kll": 1.0}})
    run = Run.create(job)
    add_trial(job, run, 0, 0.1, [{"accuracy": 0.9, "kl": 2.0}])
    with pytest.raises(ConfigError, match="best names 'kll', which no trial measured; there are accuracy, kl"):
        best_point(job, points_of(read_trials(job, run)))


def test_the_table_the_front_and_the_picture_are_left_in_the_run(tmp_path: Path) -> None:
    pareto = [{"figure": "accuracy"}, {"figure": "kl", "mode": "min"}]
    job = sweep(tmp_path, pareto=pareto)
    run = Run.create(job)
    for number, (beta, accuracy, kl) in enumerate([(0.1, 0.9, 2.0), (0.2, 0.8, 1.0), (0.4, 0.7, 1.5)]):
        add_trial(job, run, number, beta, [{"accuracy": accuracy, "kl": kl}])
    trials = read_trials(job, run)
    finish(job, run, trials)
    write_sweep_report(job, run, trials)
    assert front_of(job, points_of(trials)) == [True, True, False]
    table = pq.read_table(run.folder.local_path("sweep.parquet")).to_pylist()
    assert [row["settings.beta"] for row in table] == [0.1, 0.2, 0.4] and table[0]["kl"] == 2.0
    assert run.folder.read("sweep.csv").decode().splitlines()[0].startswith('"trial","settings.beta","seed","state"')
    assert run.folder.read(PARETO).startswith(b"\x89PNG")
    assert "Front" in run.folder.read("report.html").decode()
    assert json.loads(run.folder.read("events.jsonl").decode().splitlines()[-1])["settings"] == "beta 0.1"


def test_people_read_the_best_trial_first_and_failures_last(tmp_path: Path) -> None:
    job = sweep(tmp_path, mode="min")
    run = Run.create(job)
    for number, (beta, value, end) in enumerate([(0.1, 0.9, "finished"), (0.2, 0.1, "failed"), (0.4, 0.3, "finished")]):
        add_trial(job, run, number, beta, [{"accuracy": value}], end=end)
    assert [row[0] for row in trial_rows(job, read_trials(job, run))] == ["trial", 2, 0, 1]
