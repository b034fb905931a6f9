"""A classifier of images from the registry to /v1/predict: its approval, its answers, and where it abstains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from raysafe.models.mlp import ClassifierHead, Smoothing
from raysafe.models.vision import Vision, VisionConfig, save_vision
from raysafe.oversight.review import decide
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.serving.local import load_backend
from raysafe.serving.replicas import ReplicaSettings
from raysafe.serving.service import ServiceConfig, plan_service
from tests.serving.conftest import make_desk

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
SMOOTHING = Smoothing(sigma=0.25, selection=50, samples=500)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logits of dark and bright: the mean pixel below and above one half, times 40."""
    head = ClassifierHead(labels=("dark", "bright"), smoothing=SMOOTHING)
    model = Vision(VisionConfig(image=(1, 4, 4), stages=(1,), pooling="average", activation="leaky_relu", head=head))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.stage1.conv.weight[0, 0, 1, 1] = 1.0  # type: ignore[union-attr, index, operator]
        model.logits.weight[:] = torch.tensor([[-10.0], [10.0]])  # type: ignore[operator]
        model.logits.bias[:] = torch.tensor([20.0, -20.0])  # type: ignore[operator]
    save_vision(model, tmp_path / "model")
    return tmp_path / "model"


async def test_a_smoothed_classifier_answers_with_a_radius_and_abstains_between_classes(folder: Path) -> None:
    backend = load_backend(ReplicaSettings(folder=str(folder)))
    desk = make_desk(backend, {"guards": []}, version="digits:1")
    images = [[0.9] * 16, [0.5] * 16]
    async with desk.http as client:
        body = (await client.post("/v1/predict", json={"model": "m", "inputs": images})).json()
        wrong = await client.post("/v1/predict", json={"model": "m", "inputs": [[200.0] * 16]})
    clear, unclear = body["data"]
    assert (clear["label"], clear["abstained"], unclear["label"], unclear["abstained"]) == ("bright", False, None, True)
    # the mean of 16 pixels is 0.4 above the boundary, which is 0.4 * 4 away in the Euclidean norm
    assert 0.25 < clear["radius"] < 1.6 and unclear["radius"] == 0
    assert wrong.status_code == 400 and "pixels must lie between 0 and 1" in wrong.json()["error"]["message"]
    backend.close()


async def test_a_registered_classifier_of_images_is_served_as_it_was_approved(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    config: Any = ServiceConfig(model="squares", store=url, port=0)
    with open_store(url) as store:
        Registry(store).register(folder, name="squares")
        with AuditLog(audit_folder(url), writer="review", unique=True) as audit:
            decide(store, audit, "squares", "approved", reviewer="ada", reason="measured")
    assert plan_service(config).application.gateway.version == "squares:1"
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("0.25", "0.01"))
    with pytest.raises(Exception, match="has changed since it was registered"):
        plan_service(config)
