"""Learners that carry a classifier over to other data: all its layers, some of them, or adapters in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysafe.data.labelled import Labelled
from raysafe.data.labelled_rows import input_column, inputs_of, numbers_of
from raysafe.generalization.layers import (
    Classifier,
    NetworkConfig,
    discriminative_groups,
    fresh,
    gradual_groups,
    head_name,
    layer_modules,
    with_labels,
)
from raysafe.generalization.transfer_settings import Discriminative, Gradual, TransferSettings
from raysafe.models.classifier import load_classifier, save_classifier
from raysafe.models.language import model_folder
from raysafe.models.lora import adapt_layers, without_adapters
from raysafe.models.lora_config import LoraConfig
from raysafe.models.vision import VisionConfig
from raysafe.runtime.learner import Learner, RateGroup

Metrics = dict[str, tuple[Tensor | float, float]]


@dataclass(frozen=True)
class Start:
    """Where a network begins: at a trained one (with a new last layer where the classes differ), or from scratch."""

    config: NetworkConfig
    labels: tuple[str, ...]
    model: str | None
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.config.image if isinstance(self.config, VisionConfig) else (self.config.inputs,)

    def network(self) -> Classifier:
        if self.model is None:
            return fresh(self.config, self.seed)
        return with_labels(load_classifier(model_folder(self.model)), self.labels, self.seed)


@dataclass(frozen=True)
class Batch:
    """Inputs and their classes."""

    x: Tensor
    y_B: Tensor

    @property
    def weight(self) -> float:
        return float(len(self.y_B))

    def to(self, device: torch.device) -> Self:
        return replace(self, x=self.x.to(device), y_B=self.y_B.to(device))


class Held(nn.Module):
    """A network of which some parts stay as they are, the statistics that they normalise by too."""

    def __init__(self, network: nn.Module, frozen: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.network = network
        self._still = [norm for part in frozen for norm in part.modules() if isinstance(norm, nn.BatchNorm2d)]
        for part in frozen:
            part.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for norm in self._still:
            norm.eval()
        return self


class FineTuning(Learner):
    """Cross-entropy on the target's labels; the method says what is trained, and at which rate."""

    measures = ("accuracy",)

    def __init__(self, settings: TransferSettings, start: Start) -> None:
        self.method, self.start, self.lora = settings.method, start, settings.lora
        self.gradual, self.discriminative = settings.gradual, settings.discriminative
        self.shape = start.shape

    def build(self) -> nn.Module:
        network = self.start.network().train()
        layers = layer_modules(network)
        head = head_name(network)
        below = [part for name, part in layers.items() if name != head]
        if self.method == "frozen":
            return Held(network, below)
        if self.method != "lora":
            return Held(network)
        names = [
            name for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d) and name != head
        ]
        held = Held(network, below)
        if names:
            adapt_layers(held, self.lora or LoraConfig(), [f"network.{name}" for name in names])
            layers[head].requires_grad_(True)
        return held

    def rate_groups(self, module: nn.Module) -> Sequence[RateGroup]:
        assert isinstance(module, Held)
        network: Classifier = module.network  # type: ignore[assignment]
        if self.method == "gradual":
            groups = gradual_groups(network, (self.gradual or Gradual()).unfrozen_at)
        elif self.method == "discriminative":
            groups = discriminative_groups(network, (self.discriminative or Discriminative()).decay)
        else:
            groups = []
        return [replace(group, names=frozenset(f"network.{name}" for name in group.names)) for group in groups]

    def collate(self, rows: pa.Table) -> Batch:
        return Batch(inputs_of(rows, "x", self.shape), numbers_of(rows, "y"))

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        logits_BK = module(batch.x)
        return cross_entropy(logits_BK, batch.y_B, reduction="sum"), {"accuracy": hits(logits_BK, batch.y_B)}

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, Held)
        network = without_adapters(module).network if self.method == "lora" else module.network  # type: ignore[union-attr]
        save_classifier(network, folder)  # type: ignore[arg-type]


def table(labelled: Labelled) -> pa.Table:
    """Rows for fit()."""
    length = pa.array([1] * len(labelled), pa.int32())
    return pa.table({"x": input_column(labelled.x), "y": labelled.y, "length": length})


def hits(logits_BK: Tensor, y_B: Tensor) -> tuple[Tensor, float]:
    """How many are right, and of how many."""
    return (logits_BK.argmax(dim=1) == y_B).sum(), float(len(y_B))
