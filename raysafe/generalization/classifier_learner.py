"""The learner of classifiers of a table's rows: cross-entropy, penalties of weights and Jacobian, and equal rates.

On validation rows the loss is what the model is for: cross-entropy, and the penalty of differences between groups or,
under a constraint, the excess over the tolerance times the largest multiplier (an exact penalty), so that a checkpoint
is chosen that keeps to it. Penalties of weights don't count there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysafe.data.grouped import Features, Grouped, write_features
from raysafe.generalization.fairness import intersections
from raysafe.generalization.fairness_penalty import (
    ascend,
    cells_of,
    difference_penalty,
    differences,
    lagrangian,
    no_multipliers,
    pairs_of,
    violation,
)
from raysafe.generalization.proximal import shrink
from raysafe.generalization.regularize import jacobian_norms, weight_penalty
from raysafe.generalization.settings import FairTraining, Regularisation
from raysafe.models.mlp import Mlp, MlpConfig, save_mlp
from raysafe.runtime.learner import Learner
from raysafe.runtime.parallel import unwrapped

Metrics = dict[str, tuple[Tensor | float, float]]
LEAST_STD = 1e-6


@dataclass(frozen=True)
class Rows:
    """A batch of features, classes and groups; groups are all 0 where nobody asks for them."""

    x_BD: Tensor
    y_B: Tensor
    group_B: Tensor

    @property
    def weight(self) -> float:
        return float(len(self.y_B))

    def to(self, device: torch.device) -> Rows:
        return replace(self, x_BD=self.x_BD.to(device), y_B=self.y_B.to(device), group_B=self.group_B.to(device))


class Constrained(nn.Module):
    """A network, the multipliers of its constraint and the average that moves them: buffers, so that checkpoints
    carry them."""

    def __init__(self, config: MlpConfig, multipliers_2P: Tensor) -> None:
        super().__init__()
        self.network = Mlp(config)
        self.register_buffer("multipliers", multipliers_2P)
        self.register_buffer("average", torch.zeros(multipliers_2P.shape[1]))

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.network(x_BD)


class ClassifierLearner(Learner):
    """A small network on a table's features.

    With several workers the multipliers follow the first one's rows, which are a random share of every batch.
    """

    measures: ClassVar[tuple[str, ...]] = ("cross_entropy", "accuracy", "penalty", "gap", "multiplier")

    def __init__(
        self,
        config: MlpConfig,
        features: Features,
        *,
        mean_std: tuple[NDArray[np.floating], NDArray[np.floating]],
        favourable: int,
        groups: int,
        regularisation: Regularisation,
        fair: FairTraining,
        batch_size: int,
    ) -> None:
        """mean_std: of the training features, (D,) each. favourable: the class selected for. groups: how many."""
        self.config, self.features, self.favourable, self.groups = config, features, favourable, groups
        self.mean_D, self.std_D = mean_std
        self.regularisation, self.fair, self.batch_size = regularisation, fair, batch_size
        self.compared = groups > 1

    def build(self) -> nn.Module:
        multipliers = no_multipliers(self.fair.criterion, self.groups) if self.compared else torch.zeros(2, 0)
        module = Constrained(self.config, multipliers)
        observation = module.network.observation
        observation.get_buffer("mean").copy_(torch.from_numpy(np.asarray(self.mean_D, dtype=np.float32)))
        observation.get_buffer("std").copy_(torch.from_numpy(np.asarray(self.std_D, dtype=np.float32)))
        return module

    def collate(self, rows: pa.Table) -> Rows:
        values = rows["x"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        x_BD = torch.from_numpy(values.reshape(rows.num_rows, -1).copy())
        y_B, group_B = (torch.from_numpy(rows[name].to_numpy().copy()) for name in ("y", "group"))
        return Rows(x_BD, y_B, group_B)

    def loss(self, module: nn.Module, batch: Rows) -> tuple[Tensor, Metrics]:
        training, weight = module.training, batch.weight
        inner = unwrapped(module)
        assert isinstance(inner, Constrained)
        slopes = training and self.regularisation.jacobian > 0
        x_BD = batch.x_BD.clone().requires_grad_() if slopes else batch.x_BD
        logits_BK = module(x_BD)
        entropy = cross_entropy(logits_BK, batch.y_B, reduction="sum")
        right = (logits_BK.argmax(dim=1) == batch.y_B).sum()
        metrics: Metrics = {"cross_entropy": (entropy.detach(), weight), "accuracy": (right, weight)}
        total = entropy
        if training:
            penalty = weight * weight_penalty(inner.network, self.regularisation)
            if slopes:
                norms_B = jacobian_norms(logits_BK, x_BD, self.regularisation.projections, None)
                penalty = penalty + 0.5 * self.regularisation.jacobian * norms_B.sum()
            metrics["penalty"] = (penalty.detach(), weight)
            total = total + penalty
        if self.compared:
            fairness, figures = self._fairness(inner, logits_BK, batch, training)
            total = total + weight * fairness
            metrics |= {name: (weight * value, weight) for name, value in figures.items()}
        return total, metrics

    def _fairness(
        self, inner: Constrained, logits_BK: Tensor, batch: Rows, training: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What differences between groups add to the mean loss, and figures."""
        fair = self.fair
        pairs_P2 = pairs_of(fair.criterion, self.groups).to(logits_BK.device)
        cells_B = cells_of(fair.criterion, batch.group_B, batch.y_B == self.favourable, self.groups)
        probabilities_B = logits_BK.softmax(dim=1)[:, self.favourable]
        selected_B = (logits_BK.argmax(dim=1) == self.favourable).to(probabilities_B)
        decided_P = differences(selected_B, cells_B, pairs_P2)
        figures = {"gap": decided_P.abs().max()}
        if fair.tolerance is None:
            added = fair.penalty * difference_penalty(probabilities_B, cells_B, pairs_P2) if fair.penalty else 0.0
            return torch.as_tensor(added, device=logits_BK.device), figures
        if not training:
            return fair.most * violation(decided_P, fair.tolerance), figures
        share = min(1.0, batch.weight / self.batch_size)
        weights_2P = ascend(inner.get_buffer("multipliers"), inner.get_buffer("average"), decided_P, fair, share)
        figures["multiplier"] = weights_2P.max()
        return lagrangian(weights_2P, differences(probabilities_B, cells_B, pairs_P2)), figures

    def after_step(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.regularisation.shrinks:
            assert isinstance(module, Constrained)
            shrink(module.network, optimizer, self.regularisation, optimizer.param_groups[0]["lr"])

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, Constrained)
        save_mlp(module.network, folder)
        write_features(self.features, folder)


def group_names(grouped: Grouped) -> NDArray[np.str_]:
    """(N,): the one column's groups, or the intersections of all; one name for everybody where there is no column."""
    if not grouped.groups:
        return np.full(len(grouped), "all")
    columns = list(grouped.groups.values())
    return columns[0] if len(columns) == 1 else intersections(grouped.groups)


def rows_of(grouped: Grouped, names: list[str]) -> pa.Table:
    """Rows for fit(): features, class, the place of the group among `names`, and the `length` 1."""
    x_ND, where = grouped.labelled.x, {name: place for place, name in enumerate(names)}
    values = pa.FixedSizeListArray.from_arrays(pa.array(x_ND.reshape(-1)), x_ND.shape[1])
    group = np.array([where[name] for name in group_names(grouped).tolist()], dtype=np.int64)
    return pa.table(
        {"x": values, "y": grouped.labelled.y, "group": group, "length": np.ones(len(x_ND), dtype=np.int64)}
    )


def standard(x_ND: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Mean and deviation of each feature; 1 for one that never varies."""
    std_D = x_ND.std(axis=0, dtype=np.float64)
    return x_ND.mean(axis=0, dtype=np.float64), np.where(std_D > LEAST_STD, std_D, 1.0)
