"""Losses that bring the features of two domains together, where only one of them has labels.

CORAL (Sun and Saenko 2016), the maximum mean discrepancy under several kernels (Long et al. 2015), and the reversed
gradient of a domain classifier (Ganin et al. 2016). Differentiable; the kernel's width is that of tests of shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from raysafe.generalization.shift_statistics import median_gamma

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, as multiples of the median squared distance."""


def coral_loss(source_ND: Tensor, target_MD: Tensor) -> Tensor:
    """|C_source - C_target|_F^2 / (4 D^2), of the covariances of features (equations 1 to 3)."""
    difference_DD = torch.cov(source_ND.T) - torch.cov(target_MD.T)
    return difference_DD.square().sum() / (4 * source_ND.shape[1] ** 2)


def mmd_loss(source_ND: Tensor, target_MD: Tensor, *, widths: Sequence[float] = WIDTHS) -> Tensor:
    """The squared discrepancy, unbiased (Gretton et al. 2012, equation 3), its kernel the mean of Gaussians.

    Unbiased, it is below 0 as often as above where the domains are the same. Their widths are taken from both samples
    together, and no gradient flows through them.
    """
    both = torch.cat([source_ND, target_MD])
    gamma = median_gamma(both.detach().double().cpu().numpy())
    squared = _squared_distances(both)
    kernel = torch.stack([torch.exp(-gamma / width * squared) for width in widths]).mean(dim=0)
    rows = len(source_ND)
    within = _pairs_mean(kernel[:rows, :rows]) + _pairs_mean(kernel[rows:, rows:])
    return within - 2 * kernel[:rows, rows:].mean()


def domain_loss(source_N: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of a domain classifier's logits (target above 0), and its accuracy; the domains weigh the same."""
    losses = [
        binary_cross_entropy_with_logits(logits, torch.full_like(logits, domain))
        for logits, domain in ((source_N, 0.0), (target_M, 1.0))
    ]
    accuracy = ((source_N < 0).float().mean() + (target_M > 0).float().mean()) / 2
    return (losses[0] + losses[1]) / 2, accuracy


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """The same features, whose gradient is multiplied by -strength on the way back (equation 18)."""
    reversed_: Any = _Reversed.apply(features, strength)
    return reversed_


def reversal_strength(done: float, steepness: float = 10.0) -> float:
    """From 0 towards 1 as training goes on: 2 / (1 + exp(-steepness * done)) - 1 (section 5.2.2)."""
    return 2 / (1 + math.exp(-steepness * done)) - 1


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def _squared_distances(values_ND: Tensor) -> Tensor:
    """(N, N). Not by torch.cdist, whose gradient at distance 0 isn't a number once squared."""
    centred_ND = values_ND - values_ND.mean(dim=0)
    squares_N = centred_ND.square().sum(dim=1)
    return (squares_N[:, None] + squares_N - 2 * centred_ND @ centred_ND.T).clamp_min(0.0)


def _pairs_mean(kernel_NN: Tensor) -> Tensor:
    """The mean kernel of two different values."""
    size = len(kernel_NN)
    return (kernel_NN.sum() - kernel_NN.diagonal().sum()) / (size * (size - 1))
