"""A classifier's layers from the inputs to the logits, and which of them are trained, when and how fast."""

from __future__ import annotations

import torch
from torch import nn

from raysafe.data.labelled import Labelled
from raysafe.errors import DataError
from raysafe.generalization.representation import last_layer
from raysafe.models.classifier import head_of, input_shape, load_classifier
from raysafe.models.language import model_folder
from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig
from raysafe.models.vision import Vision, VisionConfig, cnn
from raysafe.runtime.learner import RateGroup

Classifier = Mlp | Vision
NetworkConfig = MlpConfig | VisionConfig
SMALL = (64,)
"""Hidden layers of a new network on features."""


def layer_modules(network: Classifier) -> dict[str, nn.Module]:
    """Parts that hold weights, by name: linear layers, or of a network on images its stages and dense layers."""
    parts = network.layers.named_children() if isinstance(network, Mlp) else network.named_children()
    prefix = "layers." if isinstance(network, Mlp) else ""
    return {prefix + name: part for name, part in parts if next(part.parameters(), None) is not None}


def layer_parameters(network: Classifier) -> list[frozenset[str]]:
    """Names of each layer's parameters."""
    return [
        frozenset(f"{name}.{inner}" for inner, _ in part.named_parameters())
        for name, part in layer_modules(network).items()
    ]


def discriminative_groups(network: Classifier, decay: float) -> list[RateGroup]:
    """Each layer learns at `decay` times the rate of the one above it (Howard and Ruder 2018, section 3.2)."""
    top_first = layer_parameters(network)[::-1]
    return [RateGroup(names, factor=decay**depth) for depth, names in enumerate(top_first)]


def gradual_groups(network: Classifier, unfrozen_at: float) -> list[RateGroup]:
    """The last layer learns from the start, the one below it after a while, the first from a share `unfrozen_at` on.

    Gradual unfreezing (Howard and Ruder 2018, section 3.3), at equal distances.
    """
    top_first = layer_parameters(network)[::-1]
    last = max(1, len(top_first) - 1)
    return [RateGroup(names, start=unfrozen_at * depth / last) for depth, names in enumerate(top_first)]


def fresh(config: NetworkConfig, seed: int) -> Classifier:
    """A network of this shape, its first weights drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vision(config) if isinstance(config, VisionConfig) else Mlp(config)


def small_network(data: Labelled) -> NetworkConfig:
    """The shape of a new network for these data: convolutions on images, one hidden layer on features."""
    if data.is_images:
        channels, height, width = data.x.shape[1:]
        return cnn((channels, height, width), data.labels)
    head = ClassifierHead(labels=data.labels)
    return MlpConfig(inputs=data.x.shape[1], hidden=SMALL, activation="relu", head=head)


def shape_for(model: str | None, data: Labelled) -> NetworkConfig:
    """The shape of a classifier for the data's classes: that of a folder's or a run's, or a small new one.

    Raises DataError where the classifier takes other inputs.
    """
    if model is None:
        return small_network(data)
    found = load_classifier(model_folder(model))
    if input_shape(found) != data.x.shape[1:]:
        raise DataError(
            f"{model} takes inputs of {input_shape(found)}, the data's are {data.x.shape[1:]}: set size, where "
            "they are images that differ in height and width alone"
        )
    return for_labels(found.config, data.labels)


def for_labels(config: NetworkConfig, labels: tuple[str, ...]) -> NetworkConfig:
    """The same shape with these classes; a head's own settings stay where the classes are its own."""
    if isinstance(config.head, ClassifierHead) and config.head.labels == labels:
        return config
    return type(config).parse(config.model_dump() | {"head": ClassifierHead(labels=labels).model_dump()})


def with_labels(network: Classifier, labels: tuple[str, ...], seed: int) -> Classifier:
    """The network, and where its classes are others a new last layer for these, its weights drawn by the seed."""
    if head_of(network).labels == labels:
        return network
    made = fresh(for_labels(network.config, labels), seed)
    last = f"{head_name(network)}."
    kept = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(last)}
    made.load_state_dict(kept, strict=False)
    return made


def head_name(network: Classifier) -> str:
    """The name of the layer that makes the logits."""
    last = last_layer(network)
    return next(name for name, part in network.named_modules() if part is last)
