"""The gradient of one optimiser step: micro-batches added up, normalised by the units of the whole step, over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raysafe.runtime import parallel

Metrics = dict[str, tuple[Tensor | float, float]]
"""Figures as (sum, count)."""
Loss = Callable[[nn.Module, Any], tuple[Tensor, Metrics]]
"""A batch's loss, summed over its units."""


class Sums:
    """Running sums of a loss and of (sum, count) metrics."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.bad: int | None = None
        """Place of the first addition after which the loss was not finite."""
        self._added = 0

    def add(self, loss: Tensor, metrics: Metrics, active: bool) -> None:
        self.loss += float(loss.detach()) if active else 0.0
        for name, (value, count) in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + (float(value) if active else 0.0)
            self.counts[name] = self.counts.get(name, 0.0) + (count if active else 0.0)
        if self.bad is None and not math.isfinite(self.loss):
            self.bad = self._added
        self._added += 1

    def over_ranks(self, weight: float, device: torch.device) -> dict[str, float]:
        """The mean loss and metrics over all ranks."""
        names = sorted(self.sums)
        flat = [self.loss, *(self.sums[n] for n in names), *(self.counts[n] for n in names)]
        loss, *rest = parallel.sum_over_ranks(flat, device)
        means = {name: rest[i] / (rest[len(names) + i] or 1.0) for i, name in enumerate(names)}
        return {"loss": loss / weight, **means}


def accumulate(
    module: nn.Module,
    loss_of: Loss,
    batches: Sequence[tuple[Any, bool]],
    *,
    weight: float,
    ranks: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Sums:
    """Leave in the parameters the gradient of the summed loss over `weight`, averaged so that N ranks equal one.

    batches: with a flag that is False for one that only keeps sharded ranks in step. weight: units of the whole step,
    over all ranks and micro-batches.
    """
    sums = Sums()
    for index, (batch, active) in enumerate(batches):
        with parallel.gradient_sync(module, index == len(batches) - 1):
            with parallel.autocast(dtype, device):
                loss, metrics = loss_of(module, batch)
            # ranks average their gradients, so each sum is scaled by ranks / units of the whole step
            (loss * (ranks / weight if active else 0.0)).backward()
        sums.add(loss, metrics, active)
    return sums
