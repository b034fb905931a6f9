"""Balls of the L-inf, L2 and L1 norms around samples, within a box: distances, projections, starts, steepest steps.

Everything takes points of any shape (B, …); the first axis counts samples and the norm is over all others. Projections
are onto the intersection of ball and box, and exact: for L1 as by Croce and Hein 2021 (Mind the box), L2 likewise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raysafe.robustness.attacks import draws

Norm = Literal["linf", "l2", "l1"]
_TINY = 1e-30


@dataclass(frozen=True)
class Box:
    """Least and greatest value of every feature, broadcast against (B, …)."""

    low: float | Tensor = 0.0
    high: float | Tensor = 1.0

    def clamp(self, points: Tensor) -> Tensor:
        if isinstance(self.low, Tensor) or isinstance(self.high, Tensor):
            low, high = self.edges(points)
            return torch.minimum(torch.maximum(points, low), high)
        return points.clamp(self.low, self.high)

    def edges(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """low and high of every value in points, in its shape."""
        low, high = (torch.as_tensor(edge, dtype=points.dtype, device=points.device) for edge in (self.low, self.high))
        return low.expand_as(points), high.expand_as(points)

    def room(self, x: Tensor, direction: Tensor) -> Tensor:
        """How far each value of x can go towards the sign of direction, in x's shape."""
        low, high = self.edges(x)
        return torch.where(direction > 0, high - x, x - low).clamp(min=0)


def distance(points: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """(B,) in float64, so that a float32 sum's rounding is not taken for a step out of the ball."""
    apart_BD = (points.double() - x.double()).flatten(1).abs()
    if norm == "linf":
        return apart_BD.amax(dim=1)
    return apart_BD.sum(dim=1) if norm == "l1" else apart_BD.square().sum(dim=1).sqrt()


def project(points: Tensor, x: Tensor, norm: Norm, epsilon: float, box: Box) -> Tensor:
    """The nearest points (Euclidean) in ball and box; x must lie in the box."""
    if norm == "linf":
        return box.clamp(torch.clamp(points, x - epsilon, x + epsilon))
    clamped = box.clamp(points)
    outside_B = distance(clamped, x, norm) > epsilon
    if not outside_B.any():
        return clamped
    rows = outside_B.nonzero().squeeze(1)
    apart, origin = (points - x)[rows], x[rows]
    shrink = _shrunk_l1 if norm == "l1" else _shrunk_l2
    size_RD = shrink(apart.flatten(1).abs(), box.room(origin, apart).flatten(1), epsilon)
    nearest = origin + apart.sign() * size_RD.view_as(apart)
    return clamped.index_copy(0, rows, box.clamp(nearest))


def inside(points: Tensor, x: Tensor, norm: Norm, epsilon: float, box: Box) -> Tensor:
    """The points, moved by no more than rounding, so that `distance` of each is at most epsilon and all lie in box.

    Points further outside than rounding explains become x.
    """
    points = box.clamp(points)
    for _ in range(8):
        far_B = distance(points, x, norm)
        if not (far_B > epsilon).any():
            return points
        apart = points.double() - x.double()
        if norm == "linf":
            over, nearer = apart.abs() > epsilon, (x + apart.clamp(-epsilon, epsilon)).to(points.dtype)
        else:
            over = column(far_B > epsilon, points)
            nearer = (x + apart * column(epsilon / far_B.clamp(min=_TINY), points)).to(points.dtype)
        points = torch.where(over, torch.nextafter(nearer, x), points)
    return torch.where(column(distance(points, x, norm) > epsilon, points), x, points)


def random_start(x: Tensor, norm: Norm, epsilon: float, box: Box, seed: int, sample_B: Tensor, stream: int) -> Tensor:
    """Uniform in the ball, then clamped to the box, which leaves no ball."""
    width = x[0].numel()
    if norm == "linf":
        step_BD = epsilon * (2 * draws.uniform(seed, sample_B, stream, width) - 1)
        return box.clamp(x + step_BD.view_as(x).to(x.dtype))
    toward_BD = (draws.normal if norm == "l2" else draws.laplace)(seed, sample_B, stream, width)
    toward_BD = toward_BD / toward_BD.norm(p=2 if norm == "l2" else 1, dim=1, keepdim=True).clamp(min=_TINY)
    # a stream of its own for the radius
    radius_B1 = epsilon * draws.uniform(seed, sample_B, -stream - 2, 1) ** (1 / width)
    return box.clamp(x + (radius_B1 * toward_BD).view_as(x).to(x.dtype))


def steepest(gradient: Tensor, norm: Norm, points: Tensor, box: Box, share: float = 0.03) -> Tensor:
    """The direction of length 1 in the norm along which the loss rises fastest.

    share: in L1, the part of the features that move at once, those of the largest gradient that the box doesn't stop
    (Tramer and Boneh 2019): the steepest direction itself moves one feature, and would take D steps to spread.
    """
    if norm == "linf":
        return gradient.sign()
    flat_BD = gradient.flatten(1)
    if norm == "l2":
        return (flat_BD / flat_BD.norm(dim=1, keepdim=True).clamp(min=_TINY)).view_as(gradient)
    free_BD = flat_BD.abs() * (box.room(points, gradient).flatten(1) > 0)
    moved = max(1, math.ceil(share * flat_BD.shape[1]))
    places_BM = free_BD.topk(moved, dim=1).indices
    direction_BD = torch.zeros_like(flat_BD).scatter(1, places_BM, flat_BD.sign().gather(1, places_BM))
    return (direction_BD / direction_BD.abs().sum(1, keepdim=True).clamp(min=1)).view_as(gradient)


def _shrunk_l1(size_BD: Tensor, room_BD: Tensor, epsilon: float) -> Tensor:
    """min(max(size - t, 0), room) with the threshold t by which the sum is epsilon (Croce and Hein 2021, prop. 2.1).

    The sum falls piecewise linearly in t, its slope changing by one where a size is met, and where a room is full.
    """
    breaks_BN = torch.cat([size_BD, size_BD - room_BD], dim=1)
    slope_BN = torch.cat([torch.ones_like(size_BD), -torch.ones_like(size_BD)], dim=1)
    breaks_BN, order_BN = breaks_BN.sort(dim=1, descending=True)
    slope_BN = slope_BN.gather(1, order_BN).cumsum(1)
    rise_BN = slope_BN[:, :-1] * (breaks_BN[:, :-1] - breaks_BN[:, 1:])
    sum_BN = torch.cat([torch.zeros_like(rise_BN[:, :1]), rise_BN.cumsum(1)], dim=1)
    last_B1 = ((sum_BN <= epsilon).sum(1, keepdim=True) - 1).clamp(min=0)
    missing_B1 = epsilon - sum_BN.gather(1, last_B1)
    threshold_B1 = breaks_BN.gather(1, last_B1) - missing_B1 / slope_BN.gather(1, last_B1).clamp(min=1)
    return torch.minimum((size_BD - threshold_B1).clamp(min=0), room_BD)


def _shrunk_l2(size_BD: Tensor, room_BD: Tensor, epsilon: float) -> Tensor:
    """min(s size, room) with the scale s by which its L2 norm is epsilon."""
    ratio_BD, order_BD = (room_BD / size_BD.clamp(min=_TINY)).sort(dim=1)
    room2_BD, size2_BD = room_BD.gather(1, order_BD).square(), size_BD.gather(1, order_BD).square()
    full_BD = room2_BD.cumsum(1)
    rest_BD = (size2_BD.sum(1, keepdim=True) - size2_BD.cumsum(1)).clamp(min=0)
    # the norm at the scale where the next room is full
    squares_BD = full_BD + ratio_BD.clamp(max=1e15).square() * rest_BD
    count_B1 = (squares_BD <= epsilon**2).sum(1, keepdim=True)
    start = torch.zeros_like(full_BD[:, :1])
    full_B1 = torch.cat([start, full_BD], dim=1).gather(1, count_B1)
    rest_B1 = torch.cat([size2_BD.sum(1, keepdim=True), rest_BD], dim=1).gather(1, count_B1)
    scale_B1 = ((epsilon**2 - full_B1).clamp(min=0) / rest_B1.clamp(min=_TINY)).sqrt()
    return torch.minimum(scale_B1 * size_BD, room_BD)


def column(value_B: Tensor, points: Tensor) -> Tensor:
    """(B,) as (B, 1, …), to be broadcast against points."""
    return value_B.view(-1, *[1] * (points.dim() - 1))
