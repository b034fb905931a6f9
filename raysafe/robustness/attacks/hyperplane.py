"""The least step onto a hyperplane within a box, in L-inf, L2 and L1 (Croce and Hein 2020a, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from raysafe.robustness.attacks.balls import Norm

_TINY = 1e-30


def step_onto(weight_BD: Tensor, gap_B: Tensor, room_BD: Tensor, norm: Norm) -> Tensor:
    """(B, D): the step of least norm with weight · step = gap, no part of it longer than its room.

    room: how far each feature can go in the direction sign(weight * gap). Where the hyperplane doesn't meet the box,
    the corner of the box that comes nearest.
    """
    sign_BD = weight_BD.sign() * gap_B.sign()[:, None]
    pull_BD, gap_B1 = weight_BD.abs(), gap_B.abs()[:, None]
    if norm == "l1":
        return sign_BD * _greedy(pull_BD, gap_B1, room_BD)
    rate_BD = torch.ones_like(pull_BD) if norm == "linf" else pull_BD
    return sign_BD * _level(pull_BD, rate_BD, gap_B1, room_BD)


def _level(pull_BD: Tensor, rate_BD: Tensor, gap_B1: Tensor, room_BD: Tensor) -> Tensor:
    """min(t rate, room) with the t by which the pull adds up to the gap: piecewise linear in t."""
    full_BD, order_BD = (room_BD / rate_BD.clamp(min=_TINY)).sort(dim=1)
    filled_BD = (pull_BD * room_BD).gather(1, order_BD).cumsum(1)
    slope_BD = (pull_BD * rate_BD).gather(1, order_BD)
    total_B1 = slope_BD.sum(1, keepdim=True)
    left_BD = (total_B1 - slope_BD.cumsum(1)).clamp(min=0)
    count_B1 = (filled_BD + full_BD.clamp(max=1e15) * left_BD <= gap_B1).sum(1, keepdim=True)
    start_B1 = torch.zeros_like(total_B1)
    filled_B1 = torch.cat([start_B1, filled_BD], dim=1).gather(1, count_B1)
    left_B1 = torch.cat([total_B1, left_BD], dim=1).gather(1, count_B1)
    time_B1 = (gap_B1 - filled_B1).clamp(min=0) / left_B1.clamp(min=_TINY)
    time_B1 = torch.where(count_B1 == pull_BD.shape[1], torch.full_like(time_B1, 1e30), time_B1)
    return torch.minimum(time_B1 * rate_BD, room_BD)


def _greedy(pull_BD: Tensor, gap_B1: Tensor, room_BD: Tensor) -> Tensor:
    """The features of the greatest pull first, each to the end of its room."""
    order_BD = pull_BD.argsort(dim=1, descending=True)
    pull_BD, room_BD = pull_BD.gather(1, order_BD), room_BD.gather(1, order_BD)
    share_BD = pull_BD * room_BD
    missing_BD = (gap_B1 - (share_BD.cumsum(1) - share_BD)).clamp(min=0)
    step_BD = torch.minimum(missing_BD / pull_BD.clamp(min=_TINY), room_BD)
    return torch.zeros_like(step_BD).scatter(1, order_BD, step_BD)
