"""The jobs from data to report: with fit() in this process, and once on real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from raysafe.data.labelled import Labelled, load_labelled
from raysafe.data.labelled_rows import as_npz
from raysafe.errors import DataError, Interrupted
from raysafe.generalization import continual_run, transfer_run
from raysafe.generalization.continual import ContinualJob
from raysafe.generalization.transfer import TransferJob
from raysafe.models.classifier import load_classifier
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder
from tests.generalization.here import blobs, exported, fitted, mlp, saved

FIT = {"epochs": 4, "batch_size": 32, "learning_rate": 0.01}


def fit_here(learner: Any, run: Run, config: Any, *, train: Any, seed: int, member: int, target: str, **_: Any) -> None:
    """What fit() leaves of a training: the model in its place, a row of metrics, and the event."""
    network = exported(learner, fitted(learner, train, config, seed))
    folder = saved(network, Path(run.folder.local_path("scratch")))
    Folder(run.uri).upload(folder, target)
    run.log(member + 1, {"loss": 0.0, "epoch": 1.0})
    run.event("trained", step=1)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transfer_run, continual_run):
        monkeypatch.setattr(module, "fit", fit_here)


def written(labelled: Labelled, path: Path) -> str:
    path.write_bytes(as_npz(labelled))
    return str(path)


def pretrained(folder: Path) -> str:
    """The shape of the tests' network, from training on the blobs."""
    from raysafe.generalization.fine_tuning import FineTuning, Start, table
    from raysafe.generalization.transfer_settings import TransferFit, TransferSettings

    settings = TransferSettings.parse({"method": "full", "model": saved(mlp(), folder / "new"), "data": "digits"})
    learner = FineTuning(settings, Start(mlp().config, ("a", "b", "c"), settings.model, 0))
    module = fitted(learner, table(blobs(400)), TransferFit.parse(FIT | {"epochs": 10}))
    return saved(exported(learner, module), folder / "pretrained")


def test_fine_tuning_is_compared_with_training_from_scratch_on_the_same_rows(here: None, tmp_path: Path) -> None:
    # few rows of much the same task: what was learned before helps
    job = TransferJob.parse(
        {
            "method": "frozen",
            "model": pretrained(tmp_path),
            "data": written(blobs(300, shift=0.3, seed=5), tmp_path / "target.npz"),
            "train_limit": 9,
            "comparison": {"seeds": 3},
            "training": FIT,
            "storage": str(tmp_path / "runs"),
        }
    )
    run = job.run()
    verdict = next(event for event in run.events if event["event"] == "compared")
    assert verdict["verdict"] == "helped"
    figures = {item.metric: item for item in run.evidence}
    assert set(figures) == {"accuracy_before", "accuracy", "transfer_gain"}
    assert figures["transfer_gain"].interval is not None and figures["transfer_gain"].interval[0] > 0
    assert figures["accuracy"].n == len(load_labelled(str(run.folder.local_path("held-out.npz")))) == 60
    assert "Transfer helped" in run.folder.read("report.html").decode()
    before = load_file(f"{job.model}/model.safetensors")
    after = load_file(run.folder.local_path("model/model.safetensors"))
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        "layers.2.weight",
        "layers.2.bias",
    }


def test_adaptation_leaves_the_last_model_and_measures_it_on_both_domains(here: None, tmp_path: Path) -> None:
    job = TransferJob.parse(
        {
            "method": "mmd",
            "source": written(blobs(200), tmp_path / "source.npz"),
            "data": written(blobs(120, shift=4, seed=1), tmp_path / "target.npz"),
            "training": FIT,
            "storage": str(tmp_path / "runs"),
        }
    )
    run = job.run()
    assert {item.metric for item in run.evidence} == {"accuracy", "source_accuracy"}
    assert {item["kind"] for item in run.environment["inputs"]} == {"data"}
    assert load_classifier(run.folder.local_path("model")).config.hidden == (64,)  # type: ignore[union-attr]


def test_a_target_of_another_shape_than_the_models_is_refused_before_training(here: None, tmp_path: Path) -> None:
    job = TransferJob.parse(
        {"method": "full", "model": saved(mlp(), tmp_path / "m"), "data": "digits", "storage": str(tmp_path / "runs")}
    )
    with pytest.raises(DataError, match=r"takes inputs of \(4,\), the data's are \(1, 8, 8\)"):
        job.run()


def test_tasks_can_be_sets_of_their_own_and_are_told_apart_where_asked(here: None, tmp_path: Path) -> None:
    sets = [written(blobs(120, seed=seed, shift=4 * seed), tmp_path / f"{seed}.npz") for seed in range(2)]
    job = ContinualJob.parse(
        {"method": "lwf", "data": sets, "scenario": "task", "training": FIT, "storage": str(tmp_path / "runs")}
    )
    run = job.run()
    measured = next(event for event in run.events if event["event"] == "measured")
    assert np.shape(measured["matrix"]) == (2, 2)
    assert {"average_accuracy", "backward_transfer", "worst_forgetting", "accuracy_1", "accuracy_2"} == {
        item.metric for item in run.evidence
    }
    assert run.folder.exists("held-out/2.npz") and run.folder.exists("model/config.json")


@pytest.mark.ray
def test_a_continual_run_that_was_stopped_goes_on_with_the_task_that_is_missing(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ContinualJob.parse(
        {
            "method": "ewc",
            "data": [written(blobs(200), tmp_path / "data.npz")],
            "tasks": ["a,b", "c"],
            "training": FIT | {"epochs": 2},
            "storage": str(tmp_path / "runs"),
        }
    )
    real = continual_run.fit

    def stops(*arguments: Any, member: int, **settings: Any) -> Any:
        if member:
            raise Interrupted("stopped")
        return real(*arguments, member=member, **settings)

    monkeypatch.setattr(continual_run, "fit", stops)
    with pytest.raises(Interrupted):
        job.run()
    (folder,) = (tmp_path / "runs").iterdir()
    first = Path(folder, "tasks/1/model.safetensors").read_bytes()
    monkeypatch.setattr(continual_run, "fit", real)
    run = job.run(resume=Run.open(str(folder)))
    assert [event["event"] for event in run.events].count("trained") == 2
    assert Path(folder, "tasks/1/model.safetensors").read_bytes() == first
    assert Path(folder, "tasks/1/importance.safetensors").exists()
    assert (
        Path(folder, "model/model.safetensors").read_bytes() == Path(folder, "tasks/2/model.safetensors").read_bytes()
    )
    assert any("penalty" in row for row in run.metrics)
    page = Path(folder, "report.html").read_text()
    assert "backward transfer" in page and "after each task (down)" in page
