"""Suites on a linear classifier whose faults are known: far too sure, blind to one feature, wrong in a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raysafe.errors import ConfigError, DataError
from raysafe.evaluation.generalization.classifier import digest, labelled_for, reader
from raysafe.evaluation.generalization.settings import CalibrationSettings
from raysafe.evaluation.job import ROWS, EvaluateJob
from raysafe.evaluation.suites import SUITES, Figure
from raysafe.generalization.representation import last_layer
from raysafe.models.classifier import load_classifier
from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig, save_mlp


def draw(path: Path, seed: int, count: int = 400, moved: float = 0.0, flipped: bool = False) -> str:
    """P(second class) is sigmoid(2 x); the model reads no other feature. Flipped: where the other one is large."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 2)).astype(np.float32)
    y = (rng.random(count) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(np.int64)
    if flipped:
        y = np.where(x[:, 1] > 0.7, 1 - (x[:, 0] > 0), x[:, 0] > 0).astype(np.int64)
    x[:, 1] += moved
    np.savez(path, x=x, y=y, labels=np.array(["a", "b"]))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generalization")
    for name, sharpness, tilt in (("model", 6.0, 0.0), ("other", 6.0, 0.6)):
        model = Mlp(MlpConfig(inputs=2, head=ClassifierHead(labels=("a", "b"))))
        with torch.no_grad():
            last_layer(model).weight.copy_(torch.tensor([[0.0, 0.0], [sharpness, tilt]]))
            last_layer(model).bias.zero_()
        save_mlp(model, folder / name)
    draw(folder / "source.npz", 0)
    draw(folder / "same.npz", 1)
    draw(folder / "moved.npz", 2, moved=2.0)
    draw(folder / "large.npz", 3, 4000)
    draw(folder / "flipped.npz", 4, 800, flipped=True)
    return folder


def job(folder: Path, suite: str, data: str, **settings) -> EvaluateJob:
    return EvaluateJob(
        model=str(folder / "model"),
        suite=suite,  # pyright: ignore[reportArgumentType]
        data=str(folder / data),
        storage=str(folder / "runs"),
        store=f"sqlite:///{folder}/store.db",
        **settings,
    )


def examined(found: EvaluateJob) -> tuple[dict[str, Figure], list[str], dict]:
    """The figures by metric, the titles of the report's sections, and the summary."""
    suite = SUITES[found.suite]
    findings = suite.examine(found)
    assert findings.rows and {figure.metric for figure in findings.figures} <= suite.metrics
    return {one.metric: one for one in findings.figures}, [one.title for one in findings.sections], findings.summary


QUICK = {"null_splits": 40, "permutations": 99, "sample": 60}


def test_a_move_that_the_model_is_blind_to_is_found_by_features_and_not_by_confidence(folder: Path) -> None:
    found, titles, summary = examined(
        job(
            folder,
            "shift",
            "moved.npz",
            source=str(folder / "source.npz"),
            shift=QUICK,
            thresholds={"mmd_p_value": 0.05},
        )
    )
    assert found["mmd_p_value"].value == 0.01
    assert found["mahalanobis_p_value"].value <= 0.05 < found["msp_p_value"].value
    assert found["mahalanobis_flagged"].value > 0.3 > found["msp_flagged"].value
    assert found["false_positives"].value <= 0.05 + 4 * 0.034
    assert summary["examples"]["test"] == 60 and "What moved most, of 2 features" in titles


def test_data_of_the_same_origin_show_no_shift(folder: Path) -> None:
    found, _, _ = examined(job(folder, "shift", "same.npz", source=str(folder / "source.npz"), shift=QUICK))
    assert found["mmd_p_value"].value > 0.01 and found["ks_p_value"].value > 0.01
    assert found["mahalanobis_flagged"].value < 0.1
    low, high = found["accuracy_lost"].interval or (1, -1)
    assert low <= 0 <= high


def test_a_model_three_times_too_sure_is_cooled_by_three_and_saved(folder: Path) -> None:
    saved = folder / "calibrated"
    found, titles, summary = examined(job(folder, "calibration", "large.npz", calibration={"save": str(saved)}))
    assert found["temperature"].value == pytest.approx(3, rel=0.15)
    assert found["ece"].value > 0.1 > found["ece_of_chance"].value > found["ece_scaled"].value
    assert found["nll_scaled"].value < found["nll"].value
    low, high = summary["coverage, expected"]["95% of calibration sets"]
    for method in ("lac", "aps", "raps"):
        assert low - 0.02 <= found[f"{method}_coverage"].value <= high + 0.02
    before, after = (last_layer(load_classifier(path)).weight[1, 0].item() for path in (folder / "model", saved))
    assert after == pytest.approx(before / found["temperature"].value)
    assert titles == ["Reliability", "Sets of labels"]
    with pytest.raises(ConfigError, match="is not empty: give a new folder"):
        job(folder, "calibration", "large.npz", calibration={"save": str(saved)}).run()


def test_the_slice_in_which_labels_are_turned_is_confirmed(folder: Path) -> None:
    settings = {"models": (str(folder / "other"),), "depth": 1}
    found, titles, summary = examined(job(folder, "stability", "flipped.npz", stability=settings))
    assert summary["bad slices"][0].startswith("feature 1 over")
    assert found["bad_slices"].value >= 1 and found["worst_slice_error"].value > 0.9
    assert 0 < found["churn"].value == found["ambiguity"].value < 0.1
    assert found["changed"].value < 0.05 and titles == ["Other seeds", "Small changes", "Worst slices"]


def test_evidence_names_other_models_by_their_digests_and_the_report_has_its_sections(folder: Path) -> None:
    models = {"models": (str(folder / "other"),)}
    run = job(folder, "stability", "flipped.npz", stability=models, thresholds={"changed": 0.5}).run()
    found = {item.metric: item for item in run.evidence}
    assert found["changed"].passed and found["changed"].model_digest == digest(str(folder / "model"))
    assert digest(str(folder / "other")) in found["churn"].settings["stability"]
    assert run.folder.read(ROWS) and "Worst slices" in run.folder.read("report.html").decode()


def test_where_a_calibrated_model_is_saved_decides_no_figure() -> None:
    assert CalibrationSettings(save="a").decisive({}) == CalibrationSettings().decisive({})
    assert CalibrationSettings(bins=9).decisive({}) != CalibrationSettings().decisive({})


def test_what_does_not_fit_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"takes inputs of shape \(2,\), mnist holds \(1, 28, 28\)"):
        job(folder, "stability", "large.npz").model_copy(update={"data": "mnist"}).run()
    np.savez(tmp_path / "named.npz", x=np.zeros((9, 2), np.float32), y=np.zeros(9, int), labels=np.array(["z"]))
    with pytest.raises(DataError, match=r"has the class 'z', which .* doesn't know: a, b"):
        job(folder, "stability", str(tmp_path / "named.npz")).run()
    with pytest.raises(ConfigError, match="suite shift can't do without source"):
        job(folder, "shift", "same.npz")
    with pytest.raises(ConfigError, match="shift has no effect in suite calibration"):
        job(folder, "calibration", "same.npz", shift={"alpha": 0.1})


def test_classes_are_matched_by_name(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2), np.float32), y=np.zeros(3, int), labels=np.array(["b"]))
    assert (
        labelled_for(job(folder, "stability", str(tmp_path / "b.npz")), str(tmp_path / "b.npz")).y.tolist() == [1] * 3
    )


@pytest.mark.ray
def test_two_actors_read_the_same_as_this_process(ray_cluster, folder: Path) -> None:
    x = np.random.default_rng(0).standard_normal((70, 2)).astype(np.float32)
    one, two = (reader(job(folder, "stability", "same.npz", workers=workers)) for workers in (1, 2))
    assert np.array_equal(one(x, "one").logits_NK, two(x, "two").logits_NK)
