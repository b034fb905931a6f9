"""Sweeps on a real Ray: trials beside each other, a driver that is killed, and the methods that look at trials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysafe.evaluation.sweep.job import SweepJob
from raysafe.evaluation.sweep.ledger import read_trials
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.runtime.run import Run
from tests.verify.shell import BIN, user_environment

BASE = {
    "job": "adversarial",
    "data": "digits",
    "limit": 300,
    "method": "pgd",
    "epsilon": 0.1,
    "steps": 2,
    "test_steps": 2,
    "network": {"stages": [4], "dense": [8]},
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01},
}
METRIC = "validation/robust_accuracy"


def sweep(folder: Path, **fields) -> SweepJob:
    given = {"base": BASE, "metric": METRIC, "storage": str(folder / "runs"), "store": f"sqlite:///{folder}/store.db"}
    return SweepJob.parse(given | {"space": {"epsilon": [0.05, 0.1]}} | fields)


@pytest.mark.slow
def test_two_trials_run_at_once_and_the_best_is_registered_with_its_evidence(ray_cluster, tmp_path: Path) -> None:
    attack = {"epsilon": 0.1, "epsilons": [0.1], "attacks": [{"attack": "fgsm"}], "hygiene": 0}
    job = sweep(
        tmp_path,
        metric="robustness/robust_accuracy",
        examine=[{"suite": "robustness", "data": "{run}/held-out.npz", "robustness": attack}],
        pareto=[{"figure": "robustness/clean_accuracy"}, {"figure": "robustness/robust_accuracy"}],
        best={"name": "digits"},
    )
    run = job.run()
    trials = read_trials(job, run)
    assert run.status == "finished" and [t.state for t in trials] == ["finished"] * 2
    first, second = (Run.open(trial.uri).events for trial in trials)
    # each began before the other ended: their own processes take no CPU, and starve no worker
    assert first[0]["time"] < second[-1]["time"] and second[0]["time"] < first[-1]["time"]
    best = max(trials, key=lambda trial: trial.figures["robustness/robust_accuracy"])
    with open_store(job.store) as store:
        version = Registry(store).get("digits")
        assert version.run == best.uri
        assert "clean_accuracy" in {item.metric for item in Registry(store).evidence(version)}
    assert run.folder.exists("pareto.png")


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_without_repeating_and_ends_with_the_same_table(tmp_path: Path) -> None:
    preset = tmp_path / "sweep.yaml"
    values = {"base": BASE | {"training": BASE["training"] | {"epochs": 8}}, "space": {"epsilon": EPSILONS}}
    preset.write_text(json.dumps({"job": "sweep", "metric": METRIC, **values}))
    whole = start(preset, tmp_path / "whole")
    assert whole.wait(1800) == 0
    killed = start(preset, tmp_path / "killed")
    run = wait_for(tmp_path / "killed", lambda events: events.count("finished") >= 2 and in_the_middle(tmp_path))
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done = {path.parent.name for path in trial_events(run) if "finished" in names(path)}
    steps = {path.parent.name: checkpoint_step(path.parent) for path in trial_events(run)}
    resumed = subprocess.run(
        [BIN / "raysafe", "runs", "resume", run], env=user_environment(), capture_output=True, text=True, timeout=1800
    )
    assert resumed.returncode == 0, resumed.stderr
    for path in trial_events(run):
        found = [json.loads(line) for line in path.read_text().splitlines()]
        starts = [event["event"] for event in found].count("running")
        if path.parent.name in done:
            assert starts == 1
        for event in found:
            if event["event"] == "resumed":
                # no checkpoint that there was is lost: at most the steps since the last one are done again
                assert event["step"] >= steps[path.parent.name]
    assert 2 <= len(done) < len(EPSILONS)
    assert table(run) == table(next((tmp_path / "whole").iterdir()))


EPSILONS = [0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2]
PASSING = ("run", "starts", "rows_per_s", "tokens_per_s")


def start(preset: Path, storage: Path) -> subprocess.Popen:
    command = [BIN / "raysafe", "sweep", preset, "--storage", storage]
    return subprocess.Popen(command, env=user_environment(), stdout=sys.stderr, stderr=sys.stderr)


def wait_for(storage: Path, enough) -> Path:
    """The sweep's folder, once the events of its trials are enough."""
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        runs = list(storage.iterdir()) if storage.exists() else []
        if runs and enough([name for path in trial_events(runs[0]) for name in names(path)]):
            return runs[0]
        time.sleep(0.5)
    raise AssertionError("the sweep didn't come so far")


def in_the_middle(folder: Path) -> bool:
    """Whether a trial that isn't finished has a checkpoint."""
    (run,) = (folder / "killed").iterdir()
    return any("finished" not in names(path) and checkpoint_step(path.parent) > 0 for path in trial_events(run))


def trial_events(run: Path) -> list[Path]:
    return sorted(run.glob("trials/*/events.jsonl"))


def names(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def checkpoint_step(trial: Path) -> int:
    """Step of the newest complete checkpoint, 0 where there is none."""
    listed = trial / "checkpoints" / "checkpoint_manager_snapshot.json"
    latest = json.loads(listed.read_text())["latest_checkpoint_result"] if listed.exists() else None
    return latest["metrics"]["step"] if latest else 0


def table(run: Path) -> list[dict]:
    rows = pq.read_table(run / "sweep.parquet").to_pylist()
    return [{name: value for name, value in row.items() if name not in PASSING} for row in rows]


@pytest.mark.slow
def test_asha_stops_bad_trials_early_and_says_so(ray_cluster, tmp_path: Path) -> None:
    base = BASE | {"training": BASE["training"] | {"epochs": 8, "evaluate_every": 6}}
    job = sweep(
        tmp_path,
        base=base,
        method="asha",
        space={"training.learning_rate": {"low": 1e-6, "high": 0.02, "scale": "log"}},
        trials=6,
        asha={"first_step": 6, "last_step": 48, "reduction": 2},
    )
    trials = read_trials(job, job.run())
    states = [trial.state for trial in trials]
    assert set(states) == {"finished", "stopped"}
    longest = max(trial.step for trial in trials)
    assert all(trial.step < longest for trial in trials if trial.state == "stopped")


@pytest.mark.slow
def test_a_population_hands_its_checkpoints_on(ray_cluster, tmp_path: Path) -> None:
    base = BASE | {"training": BASE["training"] | {"epochs": 12, "evaluate_every": 6, "schedule": "constant"}}
    job = sweep(
        tmp_path,
        base=base,
        method="pbt",
        space={"training.learning_rate": {"low": 1e-6, "high": 0.02, "scale": "log"}},
        trials=2,
        population={"every_steps": 12, "quantile": 0.5},
    )
    run = job.run()
    trials = read_trials(job, run)
    assert [trial.state for trial in trials] == ["finished", "finished"]
    taken = [event for trial in trials for event in Run.open(trial.uri).events if event["event"] == "took-over"]
    assert taken and all(event["step"] >= 12 for event in taken)


@pytest.mark.slow
def test_optuna_goes_on_where_it_was(ray_cluster, tmp_path: Path) -> None:
    space = {"epsilon": {"low": 0.02, "high": 0.2}}
    job = sweep(tmp_path, method="optuna", space=space, trials=2, concurrent=1)
    run = job.run()
    known = {trial.number: trial.settings for trial in read_trials(job, run)}
    more = sweep(tmp_path, method="optuna", space=space, trials=3, concurrent=1)
    run.event("interrupted")
    again = more.run(resume=Run.open(run.uri))
    trials = read_trials(more, again)
    assert {trial.number: trial.settings for trial in trials if trial.number in known} == known
    assert [trial.starts for trial in trials] == [1, 1, 1] and len({str(t.settings) for t in trials}) == 3
