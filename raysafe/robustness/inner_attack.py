"""The attack inside of training: every example takes every step up a loss that may be any function of the logits.

An attack that examines (attacks/) stops at the first adversarial point; training wants the worst.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raysafe.robustness.attacks import balls
from raysafe.robustness.attacks.attack import evaluating
from raysafe.robustness.attacks.balls import Box, Norm

LossOf = Callable[[Tensor], Tensor]
"""Logits (B, K) to a loss that is to grow, summed or one number an example."""
_BOX = Box()


def climb(
    module: nn.Module, x: Tensor, start: Tensor, loss_of: LossOf, *, norm: Norm, epsilon: float, step: float, steps: int
) -> Tensor:
    """The points after `steps` steps up the loss from `start`, each back into ball and box [0, 1]; in eval mode."""
    points = start
    with torch.enable_grad(), evaluating(module):
        for _ in range(steps):
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss_of(module(points)).sum(), points)
            points = stepped(points.detach(), gradient, x, norm=norm, epsilon=epsilon, step=step)
    return points.detach()


def stepped(points: Tensor, gradient: Tensor, x: Tensor, *, norm: Norm, epsilon: float, step: float) -> Tensor:
    """One step of length `step` in the norm's steepest direction, back into ball and box."""
    direction = balls.steepest(gradient, norm, points, _BOX, 1.0)
    return balls.project(points + step * direction, x, norm, epsilon, _BOX)


def random_start(x: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """A random point of ball and box; the draw follows torch's global generator, which checkpoints keep."""
    seed = int(torch.randint(1 << 31, ()))
    return balls.random_start(x, norm, epsilon, _BOX, seed, torch.arange(len(x), device=x.device), 0)
