"""Proximal steps: after an optimiser's step, what brings weights to exactly zero where a gradient never would.

An adaptive optimiser moves each weight by rate / d with a d of its own, so the step that has the true objective's
optimum as its fixed point is the proximal operator in that metric (Yun, Lozano and Yang 2021, eq. 3):

    argmin over w of  sum_i d_i (w_i - z_i)^2 / (2 rate) + l1 |w|_1 + sum over groups of group_g |w_g|_2
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from raysafe.generalization.regularize import grouped, penalised
from raysafe.generalization.settings import Regularisation

_BISECTIONS = 60


def soft_threshold(values: Tensor, threshold: Tensor | float) -> Tensor:
    """sign(v) max(|v| - threshold, 0)."""
    return values.sign() * (values.abs() - threshold).clamp_min(0.0)


def proximal(moved_GD: Tensor, metric_GD: Tensor, l1: float, group: float) -> Tensor:
    """The minimiser over w of sum d (w - z)^2 / 2 + l1 |w|_1 + group sum |w_g|_2, a row being a group.

    With s = soft(d z, l1), a group is zero where |s_g| <= group; else w = s r / (d r + group), where r is the norm of w
    itself, the only root of sum (s / (d r + group))^2 = 1.
    """
    pulled_GD = soft_threshold(metric_GD * moved_GD, l1)
    if group == 0:
        return pulled_GD / metric_GD
    norms_G = torch.linalg.vector_norm(pulled_GD, dim=1)
    kept_G = norms_G > group
    # at r = (|s| - group) / d with the least d of the group the sum is at most 1, at 0 it is above 1
    low_G = torch.zeros_like(norms_G)
    high_G = (norms_G - group).clamp_min(0.0) / metric_GD.amin(dim=1)
    for _ in range(_BISECTIONS):
        middle_G = (low_G + high_G) / 2
        share_G = (pulled_GD / (metric_GD * middle_G[:, None] + group)).square().sum(dim=1)
        low_G, high_G = torch.where(share_G > 1, middle_G, low_G), torch.where(share_G > 1, high_G, middle_G)
    radius_G1 = ((low_G + high_G) / 2)[:, None]
    shrunk_GD = pulled_GD * radius_G1 / (metric_GD * radius_G1 + group)
    return torch.where(kept_G[:, None], shrunk_GD, torch.zeros_like(shrunk_GD))


def adam_metric(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor:
    """d of Adam's last step for each entry: its denominator, so that the step was -rate / d times the first moment."""
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    state = optimizer.state[parameter]
    correction = 1 - group["betas"][1] ** float(state["step"])
    return state["exp_avg_sq"].div(correction).sqrt().add_(group["eps"])


@torch.no_grad()
def shrink(module: nn.Module, optimizer: torch.optim.Optimizer, regularisation: Regularisation, rate: float) -> None:
    """One proximal step of the penalised weights, in the metric of the Adam step that has just been taken."""
    for _, weight in penalised(module, regularisation):
        if weight not in optimizer.state:
            continue
        moved_GD, metric_GD = (
            grouped(each, regularisation.grouping) for each in (weight, adam_metric(optimizer, weight))
        )
        # in float64: bisection must tell a group at the edge of zero
        shrunk_GD = proximal(
            moved_GD.double(),
            metric_GD.double(),
            rate * regularisation.l1,
            rate * regularisation.group_lasso * math.sqrt(moved_GD.shape[1]),
        ).to(weight.dtype)
        if regularisation.grouping == "inputs":
            weight.copy_(shrunk_GD.reshape(weight.transpose(0, 1).shape).transpose(0, 1))
        else:
            weight.copy_(shrunk_GD.reshape(weight.shape))
