"""From a model's folder to the backend that its config.json asks for, loaded from the very files that were approved."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysafe.errors import ModelError

if TYPE_CHECKING:
    from raysafe.serving.replicas import LocalBackend, ReplicaSettings

LOADERS = {
    "writer": "raysafe.serving.writer:load_writer",
    "embedding": "raysafe.serving.embedding:load_embedder",
    "classifier": "raysafe.serving.classifier:load_classifier",
    "vector": "raysafe.serving.vector_models:load_vector_model",
}
"""What a model is, and the function (settings) -> LocalBackend that loads it."""
MODEL_TYPES = {"raysafe-mlp": "vector", "raysafe-vision": "vector"}
"""`model_type`s of config.json that are RaySafe's own; transformers knows the others."""


def load_backend(settings: ReplicaSettings) -> LocalBackend:
    """Load the model; raises ModelError, also where its files are not those that were approved."""
    check_digest(settings)
    module, _, function = LOADERS[model_kind(settings.folder)].partition(":")
    backend: LocalBackend = getattr(import_module(module), function)(settings)
    # what was loaded is what was approved only if the files are still the same after they were read
    check_digest(settings)
    return backend


def model_kind(model: str) -> str:
    """What the model does, by its config alone: a key of LOADERS.

    An encoder (a model without a language-modelling head that isn't a classifier) embeds.
    """
    from raysafe.models.folder import CONFIG, read_values
    from raysafe.models.language import load_config, model_folder
    from raysafe.models.presets import PREFIX

    if not model.startswith(PREFIX):
        own = read_values(Path(model_folder(model), CONFIG)).get("model_type")
        if own in MODEL_TYPES:
            return MODEL_TYPES[own]
    architectures = load_config(model).architectures or []
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "classifier"
    if any(name.endswith(("Model", "ForMaskedLM")) and not name.endswith("LMHeadModel") for name in architectures):
        return "embedding"
    return "writer"


def check_digest(settings: ReplicaSettings) -> None:
    """Raise ModelError where the folder isn't the one that was approved."""
    from raysafe.records.digest import folder_digest

    if settings.digest is not None and (found := folder_digest(settings.folder)) != settings.digest:
        raise ModelError(
            f"{settings.folder} has changed since it was approved (digest {found[:12]}, approved "
            f"{settings.digest[:12]}); register and review it again"
        )


def to_device(model: Any) -> str:
    """Put a torch module where it will run, its weights in memory of their own; the device's name."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    if device == "cpu":
        # weights are pages of their file until they are copied: whoever changes it changes the model that is served
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
    return device
