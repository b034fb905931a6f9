"""Suites that compare two classifiers on the same examples, on planted changes of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysafe.data.labelled import Labelled
from raysafe.data.labelled_rows import as_npz
from raysafe.errors import ConfigError, DataError
from raysafe.evaluation.generalization import forgetting
from raysafe.evaluation.job import EvaluateJob
from raysafe.evaluation.suites import SUITES
from tests.generalization.here import LABELS, blobs, mlp, saved

ROWS = 200


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Examples whose classes are what the network says, but for every tenth."""
    x = blobs(ROWS).x
    with torch.no_grad():
        said = mlp()(torch.from_numpy(x)).argmax(dim=1).numpy()
    y = np.where(np.arange(ROWS) % 10 == 0, (said + 1) % 3, said)
    (tmp_path / "data.npz").write_bytes(as_npz(Labelled(x, y, LABELS)))
    return str(tmp_path / "data.npz")


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    """The network, and one that takes everything for its first class."""
    forgot = mlp()
    with torch.no_grad():
        forgot.layers[-1].bias.copy_(torch.tensor([100.0, 0.0, 0.0]))  # type: ignore[operator]
    return saved(mlp(), tmp_path / "before"), saved(forgot, tmp_path / "after")


def job(suite: str, model: str, reference: str, data: str, **more: Any) -> EvaluateJob:
    return EvaluateJob.parse({"suite": suite, "model": model, "reference": reference, "data": data, **more})


def test_what_a_model_has_forgotten_is_the_difference_of_accuracies_with_a_paired_test(
    data: str, models: tuple[str, str]
) -> None:
    before, after = models
    found = forgetting.examine(job("forgetting", after, before, data))
    figures = {figure.metric: figure for figure in found.figures}
    assert set(figures) == SUITES["forgetting"].metrics
    assert figures["accuracy_before"].value == pytest.approx(0.9)
    assert figures["forgotten"].value == pytest.approx(0.9 - figures["accuracy"].value)
    assert figures["forgotten"].better == "lower" and figures["p_value"].value < 1e-6
    assert len(found.rows) >= ROWS * 0.1 and found.summary["classes"]["a"]["model"] == 1


def test_a_model_forgets_nothing_of_itself(data: str, models: tuple[str, str]) -> None:
    found = forgetting.examine(job("forgetting", models[0], models[0], data))
    figures = {figure.metric: figure.value for figure in found.figures}
    assert figures["forgotten"] == 0 and figures["p_value"] == 1


def test_negative_transfer_has_the_other_sign(data: str, models: tuple[str, str]) -> None:
    better, worse = models
    found = forgetting.examine_transfer(job("negative-transfer", worse, better, data))
    figures = {figure.metric: figure.value for figure in found.figures}
    assert set(figures) == SUITES["negative-transfer"].metrics
    assert figures["transfer_gain"] == pytest.approx(figures["accuracy"] - 0.9) and figures["transfer_gain"] < 0


def test_evidence_is_bound_to_the_classifiers_files(models: tuple[str, str]) -> None:
    digests = [SUITES[suite].digest(models[0]) for suite in ("forgetting", "negative-transfer")]
    assert digests[0] == digests[1] != SUITES["forgetting"].digest(models[1])


def test_data_of_other_classes_are_refused(models: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(as_npz(Labelled(blobs(9).x, blobs(9).y, ("a", "b", "z"))))
    with pytest.raises(DataError, match="class 'z', which"):
        forgetting.examine(job("forgetting", *models, str(tmp_path / "other.npz")))


def test_a_suite_of_two_models_needs_the_other(data: str) -> None:
    with pytest.raises(ConfigError, match="can't do without reference"):
        EvaluateJob.parse({"suite": "forgetting", "model": "m", "data": data})
