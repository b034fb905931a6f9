"""Expectation over transformations (Athalye et al. 2018): a randomised model by its mean logits over several draws."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysafe.robustness.attacks.attack import Model


class ExpectedLogits(nn.Module):
    """The mean of `draws` runs of a model that draws random numbers, in one batch of draws x B.

    Draws come from torch's generators, seeded by seed and the number of the pass, and leave their state as it was.
    """

    def __init__(self, model: Model, draws: int, seed: int = 0) -> None:
        super().__init__()
        self.model, self.passes, self.seed, self.calls = model, draws, seed, 0

    def forward(self, points: Tensor) -> Tensor:
        devices = [points.device] if points.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed((self.seed << 32) + self.calls)
            self.calls += 1
            logits_NK = self.model(points.repeat(self.passes, *[1] * (points.dim() - 1)))
        return logits_NK.view(self.passes, len(points), -1).mean(0)
