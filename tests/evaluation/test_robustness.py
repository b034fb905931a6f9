"""The suite robustness on actors: the same for any number of them, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysafe.errors import ConfigError
from raysafe.evaluation.job import ROWS, SUMMARY, EvaluateJob
from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig, save_mlp
from raysafe.runtime.run import Run

NAMES = ("left", "right", "middle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random network on 12 features, and 100 examples that it gets right in nine cases of ten."""
    folder = tmp_path_factory.mktemp("robustness")
    torch.manual_seed(1)
    model = Mlp(MlpConfig(inputs=12, hidden=(16,), activation="relu", head=ClassifierHead(labels=NAMES)))
    save_mlp(model, folder / "model")
    x_BD = torch.rand(100, 12)
    y_B = model(x_BD).argmax(dim=1).numpy()
    y_B[::10] = (y_B[::10] + 1) % 3
    np.savez(folder / "held-out.npz", x=x_BD.numpy(), y=y_B.astype(np.int64), labels=np.array(NAMES))
    return folder


def job(folder: Path, **fields) -> EvaluateJob:
    given = {"model": str(folder / "model"), "data": str(folder / "held-out.npz"), "suite": "robustness"}
    own = {"storage": str(folder / "runs"), "store": f"sqlite:///{folder}/store.db"}
    settings = {"epsilon": 0.05, "epsilons": [0.01, 0.2], "attacks": [{"attack": "pgd", "steps": 5}], "hygiene": 20}
    return EvaluateJob.parse(given | own | {"robustness": settings} | fields)


def facts(run: Run) -> tuple:
    return run.folder.read(ROWS), run.folder.read(SUMMARY), [(e.metric, e.value, e.interval) for e in run.evidence]


@pytest.mark.slow
def test_one_two_and_four_actors_find_the_same_and_a_second_start_does_nothing(
    ray_cluster, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for actors in (1, 2, 4):
        monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / str(actors)))
        thresholds = {"robust_accuracy@0.2": 0.99, "clean_accuracy": 0.85}
        run = job(folder, workers=actors, cpus_per_worker=0.5, thresholds=thresholds).run()
        found[actors] = facts(run)
    assert found[1] == found[2] == found[4]
    evidence = {item.metric: item for item in run.evidence}
    assert evidence["clean_accuracy"].value == 0.9 and evidence["clean_accuracy"].passed
    assert evidence["robust_accuracy@0.2"].passed is False
    assert evidence["robust_accuracy"].interval is not None and evidence["masking_warnings"].value == 0
    assert "accuracy over epsilon" in run.folder.read("report.html").decode()
    # every chunk is known: no actor is started, so that a model which can't be loaded isn't missed
    monkeypatch.setattr("raysafe.runtime.pool._work", lambda *_: pytest.fail("a finished chunk was repeated"))
    assert facts(job(folder).run()) == found[4]
    # of four chunks one is lost, as a kill would leave it: it alone is missing
    kept = sorted((tmp_path / "4").glob("*.arrow"))
    assert len(kept) == 4
    kept[0].unlink()
    monkeypatch.setattr("raysafe.runtime.pool._work", lambda make, waiting, needs: _here(make, waiting))
    assert facts(job(folder).run()) == found[4]


def _here(make, waiting):
    assert len(waiting) == 1
    for index, chunk in waiting:
        yield index, make()(chunk)


def test_data_of_other_classes_or_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    x = np.zeros((3, 5), dtype=np.float32)
    np.savez(tmp_path / "narrow.npz", x=x, y=np.arange(3), labels=np.array(NAMES))
    with pytest.raises(ConfigError, match=r"takes inputs of shape \(12,\), the data have \(5,\)"):
        job(folder, data=str(tmp_path / "narrow.npz"), storage=str(tmp_path)).run()
    np.savez(
        tmp_path / "named.npz", x=np.zeros((3, 12), dtype=np.float32), y=np.arange(3), labels=np.array(list("abc"))
    )
    with pytest.raises(ConfigError, match="give data with the model's classes"):
        job(folder, data=str(tmp_path / "named.npz"), storage=str(tmp_path)).run()


def test_thresholds_of_unknown_figures_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"thresholds names certainty@0\.1, which suite robustness doesn't measure"):
        job(folder, thresholds={"certainty@0.1": 0.5})


def test_cases_say_what_broke_them(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path))
    monkeypatch.setattr("raysafe.runtime.pool.connect", lambda *_, **__: None)
    monkeypatch.setattr("raysafe.runtime.pool._work", lambda make, waiting, needs: _all(make, waiting))
    run = job(folder).run()
    rows = [json.loads(line) for line in run.folder.read(ROWS).splitlines()]
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    assert len(wrong) == 10 and all(row["broken at epsilon"] == 0 for row in wrong)
    assert all((row["broken by"] == "pgd") == (row["broken at epsilon"] in (0, 0.01, 0.05)) for row in rows)


def _all(make, waiting):
    function = make()
    for index, chunk in waiting:
        yield index, function(chunk)
