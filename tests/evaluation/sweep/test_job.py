"""A sweep's settings: everything that can be known before it starts is refused then."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.errors import ConfigError
from raysafe.evaluation.sweep.job import SweepJob

BASE = {"job": "dpo", "model": "preset:tiny", "data": "rows.jsonl", "training": {"epochs": 2}}


def sweep(**fields) -> SweepJob:
    return SweepJob.parse({"base": BASE, "space": {"beta": [0.1, 0.2]}, "metric": "validation/accuracy"} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": {"bta": [0.1]}}, r"unknown field 'bta' in base and space; did you mean 'beta'\?"),
        ({"space": {"training.learning_rat": [0.1]}}, r"did you mean 'learning_rate'\?"),
        ({"space": {"beta": [0.1, -0.2]}}, "beta: Input should be greater than 0, got -0.2"),
        ({"space": {"beta": []}}, "space.beta"),
        ({"space": {}}, "space names no field"),
        ({"space": {"seed": [1, 2]}}, "space.seed is set by the sweep itself"),
        ({"base": BASE | {"storage": "elsewhere"}}, "base.storage is set by the sweep itself"),
        ({"base": BASE | {"job": "dop"}}, "'dop' is no job; known jobs: scratch"),
        ({"base": {"model": "preset:tiny"}}, "base.job must name the job"),
        ({"base": "nowhere.yaml"}, "can't read config file nowhere.yaml"),
        ({"space": {"beta": {"low": 0.1, "high": 1}}}, "space.beta is a range without points"),
        ({"trials": 4}, "trials has no effect with method grid"),
        ({"method": "asha"}, "needs asha.last_step"),
        ({"method": "pbt"}, "needs population.every_steps"),
        ({"method": "optuna", "seeds": [0, 1]}, "takes one seed"),
        ({"method": "pb2", "population": {"every_steps": 4}}, "space.beta must be a range"),
        ({"seeds": [1, 1]}, "seeds names a seed twice"),
        ({"examine": [{"suite": "win-rate", "data": "x"}]}, "suite win-rate can't do without judge and reference"),
        ({"examine": [{"suite": "win-rate", "data": "x", "model": "y"}]}, "examine takes no model"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_starts(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(**fields)


def test_a_grid_is_refused_for_any_of_its_combinations() -> None:
    # each value is possible, two of them are not together
    space = {"label_smoothing": [0.0, 0.1], "kind": ["sigmoid", "conservative"]}
    with pytest.raises(ConfigError, match="label_smoothing"):
        sweep(space=space)


def test_jobs_without_checkpoints_of_fit_have_no_population() -> None:
    base = {"job": "irl", "method": "bc", "env": "raysafe/SideEffects-v0", "demonstrations": "rows.jsonl"}
    with pytest.raises(ConfigError, match="hands checkpoints from trial to trial"):
        sweep(base=base, space={"gamma": [0.5]}, method="pbt", population={"every_steps": 3})


def test_a_preset_as_the_base_is_read_once_and_kept(tmp_path: Path) -> None:
    preset = tmp_path / "dpo.yaml"
    preset.write_text("job: dpo\nmodel: preset:tiny\ndata: rows.jsonl\n")
    job = sweep(base=str(preset))
    preset.unlink()
    assert SweepJob.parse(job.model_dump(mode="json")).base["data"] == "rows.jsonl"


def test_a_trial_is_the_base_with_the_settings_and_its_seed() -> None:
    trial = sweep(space={"training.epochs": [5]}).trial_job({"training.epochs": 5}, 7, "there")
    assert trial.to_yaml().splitlines()[0] == "job: dpo"
    assert (trial.seed, trial.storage, dict(trial)["training"].epochs) == (7, "there", 5)


def test_a_trial_takes_what_its_job_asks_for() -> None:
    needs = sweep(base=BASE | {"training": {"workers": 2, "cpus_per_worker": 1.5}}).trial_needs()
    assert needs is not None and (needs.workers, needs.cpus, needs.gpus) == (1, 3.0, 0.0)


def test_equal_points_are_tried_once() -> None:
    job = sweep(method="random", trials=30)
    assert sorted(point["beta"] for point in job.points()) == [0.1, 0.2]
