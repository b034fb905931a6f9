"""The network that attacks are compared on, and the count of its passes: needs torch alone, so peers use it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 10


def network() -> nn.Module:
    """A small convolutional network of 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def load(path: Path) -> nn.Module:
    model = network()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval().requires_grad_(False)


class Counted(nn.Module):
    """The model, counting the samples of its forward and backward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.count = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += len(x)
        return self.model(_Watched.apply(x, self))


class _Watched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: Counted) -> Tensor:
        ctx.counted = counted
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.counted.count += len(gradients[0])
        return gradients[0], None
