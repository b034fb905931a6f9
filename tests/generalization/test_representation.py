"""What is read of a classifier, and a temperature that becomes part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raysafe.errors import ModelError
from raysafe.generalization.representation import represent
from raysafe.generalization.temperature import scale_logits
from raysafe.models.classifier import load_classifier, save_classifier
from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig
from raysafe.models.vision import Vision, cnn

LABELS = ("a", "b", "c")


def models() -> dict[str, tuple[nn.Module, np.ndarray]]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = MlpConfig(inputs=5, hidden=(7,), head=ClassifierHead(labels=LABELS))
    images = rng.random((9, 1, 8, 8)).astype(np.float32)
    return {
        "mlp": (Mlp(config), rng.standard_normal((9, 5)).astype(np.float32)),
        "vision": (Vision(cnn((1, 8, 8), LABELS)), images),
    }


@pytest.mark.parametrize("name", ["mlp", "vision"])
def test_logits_are_the_last_layer_of_the_features(name: str) -> None:
    model, x = models()[name]
    model.train()
    found = represent(model, x, batch=4)
    last = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    weight, bias = last.weight.detach().double().numpy(), last.bias.detach().double().numpy()
    assert found.features_ND @ weight.T + bias == pytest.approx(found.logits_NK, abs=1e-5)
    assert found.logits_NK == pytest.approx(model.eval()(torch.from_numpy(x)).detach().numpy(), abs=1e-5)


def test_the_mode_found_is_restored_and_no_hook_stays() -> None:
    model, x = models()["vision"]
    model.train()
    represent(model, x)
    assert model.training and all(not part._forward_pre_hooks for part in model.modules())


def test_a_model_whose_last_linear_layer_is_not_its_output_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1))
    with pytest.raises(ModelError, match="logits of a Sequential are not the outputs of its last linear layer"):
        represent(model, np.zeros((2, 5), np.float32))
    with pytest.raises(ModelError, match="no linear layer"):
        represent(nn.Flatten(), np.zeros((2, 5), np.float32))


@pytest.mark.parametrize("name", ["mlp", "vision"])
def test_a_temperature_is_saved_with_the_model(name: str, tmp_path: Path) -> None:
    model, x = models()[name]
    before = represent(model, x).logits_NK
    scale_logits(model, 2.5)
    save_classifier(model, tmp_path / "model")  # pyright: ignore[reportArgumentType]
    assert represent(load_classifier(tmp_path / "model"), x).logits_NK == pytest.approx(before / 2.5, abs=1e-5)
    with pytest.raises(ValueError, match="above 0"):
        scale_logits(model, 0.0)
