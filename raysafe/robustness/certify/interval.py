"""Boxes of activations, and how much rounding they allow for.

A bound is of the network as floating-point arithmetic evaluates it: each sum of n products may err by
`rounding(n) * sum |a b|`, which is eight standard deviations of n independent roundings (Higham and Mary 2019:
exceeded with a probability below 1e-13), and boxes and lines are moved outwards by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from raysafe.errors import ConfigError

_DEVIATIONS = 8.0


def rounding(terms: int, dtype: torch.dtype) -> float:
    """By how much a sum of `terms` products may err, as a share of the sum of their magnitudes.

    Twice what one evaluation errs by: once for the bound's own sums, once for the network's.
    """
    return 2.0 * _DEVIATIONS * math.sqrt(terms) * torch.finfo(dtype).eps / 2.0


@dataclass(frozen=True)
class Interval:
    """lower <= x <= upper elementwise, both (B, …)."""

    lower: Tensor
    upper: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.lower.shape

    @property
    def centre(self) -> Tensor:
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width, with what the rounding of the centre may take from it."""
        return (self.upper - self.lower) / 2 + torch.finfo(self.lower.dtype).eps * self.magnitude

    @property
    def magnitude(self) -> Tensor:
        """The greatest |x| within."""
        return torch.maximum(self.upper, -self.lower)

    def intersect(self, other: Interval) -> Interval:
        """What both say. Rounding can't part them by more than it widened them."""
        return Interval(torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper))

    def __getitem__(self, rows: slice) -> Interval:
        return Interval(self.lower[rows], self.upper[rows])


def box(x: Tensor, epsilon: float | Tensor, clip: tuple[float, float] | None = (0.0, 1.0)) -> Interval:
    """The L-infinity ball about inputs (B, …) within the range that inputs have.

    epsilon: one for all, or one each (B,). Raises ConfigError where it is below 0 or an input lies out of the range.
    """
    radius_B = torch.as_tensor(epsilon, dtype=x.dtype, device=x.device)
    if not torch.isfinite(radius_B).all() or (radius_B < 0).any() or radius_B.ndim > 1:
        raise ConfigError(f"epsilon must be a finite number of at least 0, or one for each input, got {epsilon}")
    if radius_B.ndim:
        radius_B = radius_B.reshape(-1, *[1] * (x.ndim - 1))
    lower, upper = x - radius_B, x + radius_B
    if clip is None:
        return Interval(lower, upper)
    low, high = clip
    if not ((x >= low) & (x <= high)).all():
        raise ConfigError(
            f"inputs must lie in [{low:g}, {high:g}], found {x.min().item():g} to {x.max().item():g}: scale them, or "
            "name another range by clip (None for inputs without one)"
        )
    return Interval(lower.clamp(min=low), upper.clamp(max=high))
