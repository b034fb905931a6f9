"""Learners that make a classifier robust: training on the worst inputs nearby, on noise, or on bounds.

PGD (Madry et al. 2018), TRADES (Zhang et al. 2019), MART (Wang et al. 2020), fast FGSM (Wong et al. 2020) with its
check for collapse, free training (Shafahi et al. 2019), Gaussian noise for smoothing (Cohen et al. 2019); training on
bounds is in certified_training.py. Robust accuracy on validation rows chooses the checkpoint, since robust training
overfits (Rice et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysafe.data.labelled import Labelled
from raysafe.models.classifier import load_classifier, save_classifier
from raysafe.models.mlp import Mlp, MlpConfig
from raysafe.models.vision import Vision, VisionConfig
from raysafe.robustness.attacks import draws
from raysafe.robustness.attacks.attack import evaluating
from raysafe.robustness.attacks.settings import FGSM, PGD, Attack
from raysafe.robustness.averaging import Averaged
from raysafe.robustness.inner_attack import climb, random_start, stepped
from raysafe.robustness.losses import kl_divergence, mart_loss, trades_loss
from raysafe.robustness.settings import Defence
from raysafe.robustness.weight_perturbation import Forward, forward_with, worst_weights
from raysafe.runtime.learner import Learner
from raysafe.runtime.parallel import unwrapped

Metrics = dict[str, tuple[Tensor | float, float]]
NetworkConfig = VisionConfig | MlpConfig
_FIRST_NOISE = 1e-3
"""Standard deviation of the start of TRADES's attack, whose loss is flat at the clean input (their code)."""


@dataclass(frozen=True)
class Batch:
    """Inputs, classes, and the examples' numbers in their part."""

    x: Tensor
    y_B: Tensor
    row_B: Tensor

    @property
    def weight(self) -> float:
        return float(len(self.y_B))

    def to(self, device: torch.device) -> Batch:
        return replace(self, x=self.x.to(device), y_B=self.y_B.to(device), row_B=self.row_B.to(device))


def table(labelled: Labelled) -> pa.Table:
    """Rows for fit(): each example's values, class and number."""
    rows = len(labelled)
    values = pa.FixedSizeListArray.from_arrays(pa.array(labelled.x.reshape(-1)), labelled.x[0].size)
    columns = {"x": values, "y": labelled.y, "row": np.arange(rows), "length": np.ones(rows, dtype=np.int32)}
    return pa.table(columns)


class RobustLearner(Learner):
    """Clean and robust accuracy on validation rows, by whatever the network is trained; `defence` says how."""

    def __init__(self, defence: Defence, network: NetworkConfig, *, start: str | None = None, seed: int = 0) -> None:
        """start: the folder of a classifier to go on from."""
        self.defence, self.network, self.start, self.seed = defence, network, start, seed
        self.shape = network.image if isinstance(network, VisionConfig) else (network.inputs,)
        self.ramp = 1.0
        """Share of epsilon at this step."""

    def before_step(self, step: int, total_steps: int) -> None:
        self.ramp = self.defence.ramp(step, total_steps)

    def build(self) -> nn.Module:
        if self.start is not None:
            found = load_classifier(self.start).train()
            # of the same shape; its head may say now that it is served smoothed
            found.config = self.network  # type: ignore[assignment]
            module: nn.Module = found
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                module = Vision(self.network) if isinstance(self.network, VisionConfig) else Mlp(self.network)
        return module if self.defence.average is None else Averaged(module, self.defence.average)

    def collate(self, rows: pa.Table) -> Batch:
        values = rows["x"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        x = torch.from_numpy(values.reshape(-1, *self.shape).copy())
        y_B, row_B = (torch.tensor(rows[name].to_numpy()) for name in ("y", "row"))
        return Batch(x, y_B, row_B)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        if not module.training:
            return self.validate(unwrapped(module), batch)
        loss_B, metrics = self.train(module, batch)
        return loss_B.sum(), metrics

    def train(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """The loss of each example, and figures."""
        x = batch.x + self.defence.sigma * torch.randn_like(batch.x) if self.defence.sigma is not None else batch.x
        logits_BK = module(x)
        return cross_entropy(logits_BK, batch.y_B, reduction="none"), {"accuracy": hits(logits_BK, batch.y_B)}

    def validate(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        """Clean loss and accuracy, and the accuracy under the attack, which starts from the same points each time."""
        logits_BK = module(batch.x)
        attack = PGD(steps=self.defence.validation_steps, seed=self.seed)
        metrics = {
            "accuracy": hits(logits_BK, batch.y_B),
            "robust_accuracy": self.survived(module, batch, attack),
        }
        if self.defence.sigma is not None:
            noise = draws.normal(self.seed, batch.row_B, 1, batch.x[0].numel()).view_as(batch.x)
            metrics["noisy_accuracy"] = hits(module(batch.x + self.defence.sigma * noise), batch.y_B)
        return cross_entropy(logits_BK, batch.y_B, reduction="sum"), metrics

    def survived(self, module: nn.Module, batch: Batch, attack: Attack) -> tuple[Tensor | float, float]:
        """How many examples the attack doesn't break, and of how many."""
        defence = self.defence
        found = attack(module, batch.x, batch.y_B, norm=defence.norm, epsilon=defence.epsilon, sample=batch.row_B)
        return (~found.success).sum(), batch.weight

    def save(self, module: nn.Module, folder: Path) -> None:
        network = module.averaged() if isinstance(module, Averaged) else module
        save_classifier(cast("Mlp | Vision", network), folder)

    def after_step(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if isinstance(module, Averaged):
            module.update()


def hits(logits_BK: Tensor, y_B: Tensor) -> tuple[Tensor | float, float]:
    """How many are right, and of how many."""
    return (logits_BK.argmax(-1) == y_B).sum(), float(len(y_B))


def trained(module: nn.Module) -> nn.Module:
    """The network whose weights are trained, without what is around it."""
    inner = unwrapped(module)
    return inner.network if isinstance(inner, Averaged) else inner


class AdversarialLearner(RobustLearner):
    """pgd, trades, mart and fast: the loss on the worst inputs, and where asked for at the worst weights."""

    def train(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        x, y_B, method = batch.x, batch.y_B, self.defence.method
        worst = self.worst(trained(module), x, y_B)
        both = method in ("trades", "mart")
        inputs = torch.cat([x, worst]) if both else worst

        def losses(forward: Forward) -> tuple[Tensor, Tensor]:
            logits = forward(inputs)
            if not both:
                return cross_entropy(logits, y_B, reduction="none"), logits
            clean_BK, adversarial_BK = logits.chunk(2)
            loss = trades_loss if method == "trades" else mart_loss
            return loss(clean_BK, adversarial_BK, y_B, self.defence.divergence_weight), logits

        forward: Forward = module
        if self.defence.weight_perturbation:
            near = worst_weights(module, lambda f: losses(f)[0].mean(), self.defence.weight_perturbation)
            forward = forward_with(module, near)
        loss_B, logits = losses(forward)
        metrics = {"robust_accuracy": hits(logits[-len(y_B) :], y_B)}
        return loss_B, metrics | ({"accuracy": hits(logits[: len(y_B)], y_B)} if both else {})

    def worst(self, network: nn.Module, x: Tensor, y_B: Tensor) -> Tensor:
        """The inputs on which a step is taken."""
        defence, epsilon = self.defence, self.ramp * self.defence.epsilon
        start = random_start(x, defence.norm, epsilon)

        def loss_of(logits_BK: Tensor) -> Tensor:
            return cross_entropy(logits_BK, y_B, reduction="sum")

        if defence.method == "trades":
            start = (x + _FIRST_NOISE * torch.randn_like(x)).clamp(0, 1)
            with torch.no_grad(), evaluating(network):
                clean_BK = network(x)

            def loss_of(logits_BK: Tensor) -> Tensor:
                return kl_divergence(clean_BK, logits_BK)

        steps = 1 if defence.method == "fast" else defence.steps
        step = self.ramp * defence.step
        return climb(network, x, start, loss_of, norm=defence.norm, epsilon=epsilon, step=step, steps=steps)

    def validate(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().validate(module, batch)
        if self.defence.method == "fast":
            metrics["fgsm_accuracy"] = self.survived(module, batch, FGSM())
        return loss, metrics

    def give_up(self, figures: dict[str, float], best: float | None) -> str | None:
        if self.defence.method != "fast" or best is None:
            return None
        return collapsed(figures["robust_accuracy"], figures["fgsm_accuracy"], best, self.defence.collapse)


def collapsed(robust: float, fgsm: float, best: float, fall: float) -> str | None:
    """Why fast training has overfitted to its own single step (Wong et al. 2020, section 5.4), or None."""
    if robust > best - fall or fgsm < robust + fall:
        return None
    return (
        f"catastrophic overfitting: robust accuracy fell from {best:.3f} to {robust:.3f} while accuracy under one step "
        f"of FGSM is {fgsm:.3f}; lower step_size or epsilon, or train by method pgd"
    )


class FreeLearner(RobustLearner):
    """Each batch is taken several times, and one backward pass moves both the weights and the perturbation.

    The perturbation is carried from step to step, and from batch to batch. It isn't in checkpoints: a resumed run
    begins it anew at 0.
    """

    def __init__(self, defence: Defence, network: NetworkConfig, *, start: str | None = None, seed: int = 0) -> None:
        super().__init__(defence, network, start=start, seed=seed)
        self.replays = defence.replays
        self.changes: list[tuple[Tensor, Tensor]] = []
        """(inputs, perturbed inputs) of this step's micro-batches; their gradients come with the backward pass."""
        self.carried: Tensor | None = None

    def before_step(self, step: int, total_steps: int) -> None:
        super().before_step(step, total_steps)
        self.changes = []

    def train(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        start = batch.x
        if self.carried is not None:
            done = sum(len(x) for x, _ in self.changes)
            carried = self.carried[done : done + len(start)]
            # a last batch may be smaller, a next one larger
            start = torch.cat([start[: len(carried)] + carried, start[len(carried) :]]).clamp(0, 1)
        points = start.detach().requires_grad_()
        self.changes.append((batch.x, points))
        logits_BK = module(points)
        return cross_entropy(logits_BK, batch.y_B, reduction="none"), {"robust_accuracy": hits(logits_BK, batch.y_B)}

    def after_step(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(module, optimizer)
        moved = []
        defence = self.defence
        epsilon, step = self.ramp * defence.epsilon, self.ramp * defence.step
        for x, points in self.changes:
            assert points.grad is not None
            after = stepped(points.detach(), points.grad, x, norm=defence.norm, epsilon=epsilon, step=step)
            moved.append(after - x)
        self.carried = torch.cat(moved)
