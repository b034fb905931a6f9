"""Small classifiers trained in a second or two, for what is measured on them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import rotate
from torch import nn

from raysafe.data.labelled import Labelled
from raysafe.models.vision import Vision, cnn


def trained(labelled: Labelled, *, seed: int = 0, epochs: int = 20, learning_rate: float = 2e-3) -> Vision:
    """A small convolutional network on these images, in eval mode."""
    shape = labelled.x.shape[1:]
    assert len(shape) == 3
    torch.manual_seed(seed)
    model = Vision(cnn(shape, labelled.labels))
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    x_NCHW, y_N = torch.from_numpy(labelled.x), torch.from_numpy(labelled.y)
    for _ in range(epochs):
        for rows in torch.randperm(len(y_N)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x_NCHW[rows]), y_N[rows]).backward()
            optimizer.step()
    return model.eval()


def noisy(x_NCHW: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    """Gaussian noise on every pixel, within [0, 1]."""
    noise = np.random.default_rng(seed).standard_normal(x_NCHW.shape)
    return np.clip(x_NCHW + deviation * noise, 0, 1).astype(np.float32)


def rotated(x_NCHW: np.ndarray, degrees: float) -> np.ndarray:
    """Around the middle, by straight lines between pixels."""
    turned = rotate(x_NCHW, degrees, axes=(2, 3), reshape=False, order=1)
    return np.clip(turned, 0, 1).astype(np.float32)
