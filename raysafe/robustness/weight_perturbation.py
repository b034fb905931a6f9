"""Adversarial weight perturbation (Wu, Xia and Wang 2020): the loss is taken at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

Forward = Callable[[Tensor], Tensor]


def worst_weights(module: nn.Module, loss_of: Callable[[Forward], Tensor], gamma: float) -> dict[str, Tensor]:
    """One step up the loss for each weight tensor: w + gamma ||w|| g / ||g||, by name; they still depend on w.

    loss_of: the batch's loss, given a forward pass. Biases and the scales of a normalisation stay (their eq. 10).
    """
    weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad and weight.ndim > 1}
    gradients = torch.autograd.grad(loss_of(module), list(weights.values()))
    found = {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        norm = gradient.norm()
        step = gradient * (gamma * weight.detach().norm() / norm) if norm > 0 else torch.zeros_like(gradient)
        found[name] = weight + step.detach()
    return found


def forward_with(module: nn.Module, weights: dict[str, Tensor]) -> Forward:
    """The module's forward pass with other weights, through which gradients reach its own."""
    return lambda x: functional_call(module, weights, (x,))
