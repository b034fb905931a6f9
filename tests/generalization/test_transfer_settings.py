"""Settings that can't be are refused in one sentence, before anything starts; the verdict on negative transfer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.generalization.accuracy import right
from raysafe.generalization.continual import ContinualJob
from raysafe.generalization.images import resized
from raysafe.generalization.negative_transfer import judge
from raysafe.generalization.transfer import TransferJob, check_domains
from tests.generalization.here import blobs, mlp
from tests.generalization.test_fine_tuning import images

TRANSFER = {"method": "full", "model": "m", "data": "digits"}
CONTINUAL = {"method": "plain", "data": ["digits"], "tasks": ["0,1", "2,3"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "dann"}, "method dann needs source"),
        ({"source": "mnist"}, "method full reads no source"),
        ({"model": None}, "method full needs model"),
        ({"gradual": {}}, "gradual has no effect with method full"),
        ({"lora": {}}, "lora has no effect with method full"),
        ({"adaptation": {}}, "adaptation has no effect with method full"),
        ({"method": "mmd", "source": "mnist", "comparison": {}}, "no labels to train from scratch on"),
        ({"method": "mmd", "source": "mnist", "validation_fraction": 0.1}, "keeps the last model"),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "leave no rows to train on"),
        ({"training": {"monitor": "coral"}}, "choose one of loss, accuracy"),
        ({"training": {"sharding": "fsdp"}}, "sharding must be ddp"),
    ],
)
def test_a_transfer_that_cant_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TransferJob.parse(TRANSFER | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ["0,1"]}, "needs tasks, two or more"),
        ({"data": ["digits", "mnist"]}, "leave one out"),
        ({"data": ["mnist", "mnist"], "tasks": []}, "names a set twice"),
        ({"tasks": ["0,1", "1,2"]}, "names the class 1 twice"),
        ({"rehearsal": {}}, "rehearsal has no effect with method plain"),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "leave no rows to train on"),
        ({"training": {"monitor": "penalty"}}, "choose loss or accuracy"),
    ],
)
def test_a_continual_learning_that_cant_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ContinualJob.parse(CONTINUAL | changes)


def test_a_model_that_is_adapted_is_the_last_one_and_may_begin_anew() -> None:
    job = TransferJob.parse({"method": "dann", "data": "digits", "source": "mnist"})
    assert job.adapts and job.model is None


@pytest.mark.parametrize(
    ("transferred", "verdict"),
    [((0.9, 0.92, 0.91), "helped"), ((0.5, 0.52, 0.5), "hurt"), ((0.6, 0.9, 0.71), "can't tell")],
)
def test_an_interval_on_one_side_of_0_decides_and_no_other(transferred: tuple[float, ...], verdict: str) -> None:
    found = judge(transferred, (0.7, 0.7, 0.7))
    assert found.verdict == verdict
    assert (found.gain.low > 0, found.gain.high < 0) == (verdict == "helped", verdict == "hurt")
    assert f"{found.gain.difference:+.4f}" in found.sentence


def test_shrinking_averages_over_areas_and_growing_keeps_the_range() -> None:
    small = resized(images(3), (4, 4))
    expected = images(3).x.reshape(3, 1, 4, 2, 4, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(small.x, expected, rtol=1e-6)
    large = resized(images(3), (13, 11))
    assert large.x.shape == (3, 1, 13, 11) and large.x.min() >= 0 and large.x.max() <= 1


def test_features_have_no_size_and_data_of_one_size_stay() -> None:
    data = images(3)
    assert resized(data, (8, 8)) is data
    with pytest.raises(ConfigError, match="size 4 4 is for images"):
        resized(blobs(4), (4, 4))


def test_domains_that_differ_in_shape_or_classes_are_refused() -> None:
    with pytest.raises(DataError, match="set size"):
        check_domains(images(3), resized(images(3), (4, 4)))
    with pytest.raises(DataError, match="needs the same"):
        check_domains(blobs(9), type(blobs(9))(blobs(9).x, blobs(9).y, ("a", "b", "x")))


def test_only_the_classes_that_compete_are_counted() -> None:
    data = blobs(50, classes=(2,))
    assert right(mlp(), data, among=(2,)).all()
    with pytest.raises(DataError, match="tells x, y apart"):
        right(mlp(("x", "y")), data)
