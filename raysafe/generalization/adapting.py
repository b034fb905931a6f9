"""The learner of domain adaptation: labels of the source, inputs of both domains, the losses of adaptation.py.

A row is a source example beside a target input; the target's labels are nowhere in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysafe.data.labelled import Labelled
from raysafe.data.labelled_rows import input_column, inputs_of, numbers_of
from raysafe.generalization.adaptation import (
    coral_loss,
    domain_loss,
    mmd_loss,
    reversal_strength,
    reverse_gradient,
)
from raysafe.generalization.fine_tuning import Metrics, Start, hits
from raysafe.generalization.layers import Classifier
from raysafe.generalization.representation import last_layer
from raysafe.generalization.transfer_settings import Adaptation, TransferSettings
from raysafe.models.classifier import save_classifier
from raysafe.runtime.learner import Learner

FEWEST = 2
"""Examples of a domain from which a covariance, or a mean over pairs, can be taken."""


@dataclass(frozen=True)
class Pairs:
    """Source examples with their classes, and as many target inputs."""

    x: Tensor
    y_B: Tensor
    target: Tensor

    @property
    def weight(self) -> float:
        return float(len(self.y_B))

    def to(self, device: torch.device) -> Self:
        return replace(self, x=self.x.to(device), y_B=self.y_B.to(device), target=self.target.to(device))


@dataclass(frozen=True)
class Seen:
    """What a network makes of both domains."""

    logits_BK: Tensor
    """Of the source."""
    features_BD: Tensor
    target_BD: Tensor
    domains_2B: Tensor | None
    """A domain classifier's logits, of the source and then of the target."""


class TwoDomains(nn.Module):
    """A network with its features in view, and perhaps a domain classifier behind their reversed gradient."""

    def __init__(self, network: Classifier, hidden: int | None) -> None:
        super().__init__()
        self.network = network
        last = last_layer(network)
        last.register_forward_pre_hook(self._look)
        self.domain = (
            nn.Sequential(nn.Linear(last.in_features, hidden), nn.ReLU(), nn.Linear(hidden, 1)) if hidden else None
        )
        self._features: Tensor | None = None

    def forward(self, source: Tensor, target: Tensor, strength: float) -> Seen:
        rows = len(source)
        logits_BK = self.network(torch.cat([source, target]))[:rows]
        features, self._features = self._features, None
        assert features is not None
        domains = None if self.domain is None else self.domain(reverse_gradient(features, strength))[:, 0]
        return Seen(logits_BK, features[:rows], features[rows:], domains)

    def _look(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]


class Adapting(Learner):
    """coral, mmd and dann; `source` is their control, which never sees the target."""

    measures = ("accuracy",)

    def __init__(self, settings: TransferSettings, start: Start) -> None:
        self.method, self.start, self.shape = settings.method, start, start.shape
        self.adaptation = settings.adaptation or Adaptation()
        self.done = 0.0

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.start.seed)
            return TwoDomains(self.start.network(), self.adaptation.hidden if self.method == "dann" else None)

    def before_step(self, step: int, total_steps: int) -> None:
        self.done = step / total_steps

    def collate(self, rows: pa.Table) -> Pairs:
        x, target = (inputs_of(rows, name, self.shape) for name in ("x", "target"))
        return Pairs(x, numbers_of(rows, "y"), target)

    def loss(self, module: nn.Module, batch: Pairs) -> tuple[Tensor, Metrics]:
        target = batch.target[:0] if self.method == "source" else batch.target
        seen: Seen = module(batch.x, target, reversal_strength(self.done, self.adaptation.steepness))
        classes = cross_entropy(seen.logits_BK, batch.y_B, reduction="sum")
        figures: Metrics = {"accuracy": hits(seen.logits_BK, batch.y_B)}
        rows = batch.weight
        if self.method == "source" or rows < FEWEST:
            return classes, figures
        between, more = self._between(seen)
        figures |= {name: (float(value) * rows, rows) for name, value in more.items()}
        return classes + rows * self.adaptation.weight * between, figures

    def _between(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor]]:
        """The domains' loss, and figures of it."""
        if self.method == "coral":
            loss = coral_loss(seen.features_BD, seen.target_BD)
            return loss, {"coral": loss.detach()}
        if self.method == "mmd":
            loss = mmd_loss(seen.features_BD, seen.target_BD, widths=self.adaptation.widths)
            return loss, {"mmd": loss.detach()}
        assert seen.domains_2B is not None
        source_B, target_B = seen.domains_2B.chunk(2)
        loss, accuracy = domain_loss(source_B, target_B)
        return loss, {"domain_loss": loss.detach(), "domain_accuracy": accuracy}

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, TwoDomains)
        save_classifier(module.network, folder)


def pair_table(source: Labelled, target: NDArray[np.float32], seed: int) -> pa.Table:
    """Rows for fit(): as many as the larger domain has; the other goes round in a new order each time."""
    rows = max(len(source), len(target))
    rng = np.random.default_rng(seed)
    first, second = (_round(count, rows, rng) for count in (len(source), len(target)))
    length = pa.array([2] * rows, pa.int32())
    columns = {"x": input_column(source.x[first]), "y": source.y[first], "target": input_column(target[second])}
    return pa.table(columns | {"length": length})


def _round(count: int, rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`rows` numbers below `count`, each as often as any other, within one."""
    return np.concatenate([rng.permutation(count) for _ in range(-(-rows // count))])[:rows]
