"""Classifiers of vectors and images, as attacks, certificates and reports take them: modules from inputs to logits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raysafe.errors import ModelError
from raysafe.models import mlp, vision
from raysafe.models.folder import CONFIG, read_values
from raysafe.models.mlp import ClassifierHead

if TYPE_CHECKING:
    from raysafe.models.mlp import Mlp
    from raysafe.models.vision import Vision


def load_classifier(folder: str | Path) -> Mlp | Vision:
    """The classifier in a folder of raysafe-mlp or raysafe-vision, in eval mode; forward gives logits (B, K).

    Raises ModelError for another kind of model, and where the folder isn't exactly what its config says.
    """
    model_type = read_values(Path(folder) / CONFIG).get("model_type")
    if model_type == vision.MODEL_TYPE:
        return vision.load_vision(folder)
    if model_type != mlp.MODEL_TYPE:
        raise ModelError(
            f"{folder} is no classifier of vectors or images: its model_type must be {mlp.MODEL_TYPE} or "
            f"{vision.MODEL_TYPE}, found {model_type!r}"
        )
    model = mlp.load_mlp(folder)
    if not isinstance(model.config.head, ClassifierHead):
        raise ModelError(f"{folder} is no classifier: its head is of the kind '{model.config.head.kind}'")
    return model


def save_classifier(model: Mlp | Vision, folder: str | Path) -> None:
    """Write the model's folder; raises ModelError where weights aren't finite."""
    if isinstance(model, vision.Vision):
        vision.save_vision(model, folder)
    else:
        mlp.save_mlp(model, folder)


def labels_of(model: Mlp | Vision) -> tuple[str, ...]:
    """The names of the classes, in the order of the logits."""
    return head_of(model).labels


def head_of(model: Mlp | Vision) -> ClassifierHead:
    """What the model says of its outputs."""
    head = model.config.head
    assert isinstance(head, ClassifierHead)
    return head


def input_shape(model: Mlp | Vision) -> tuple[int, ...]:
    """Of one input, without the batch axis: (D,) or (C, H, W)."""
    config = model.config
    return config.image if isinstance(config, vision.VisionConfig) else (config.inputs,)
