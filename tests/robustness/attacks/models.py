"""Small networks that attacks are tested on."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits as (1797, 1, 8, 8) in [0, 1], and labels."""
    data = load_digits()
    x_BCHW = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    return x_BCHW, torch.tensor(data.target, dtype=torch.int64)


@cache
def digits_network() -> nn.Module:
    """A small convolutional network, trained for a second; batch norm and dropout tell train from eval mode."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(128, 10),
    )  # fmt: skip
    x, y = digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(120):
        rows = torch.arange(step * 64, step * 64 + 64) % 1400
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.eval()


def linear_network(features: int = 6, classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))
