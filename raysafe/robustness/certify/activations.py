"""Activations: their images of a box, and lines below and above them in it (Zhang et al. 2018, CROWN).

A slope may be any number, since its offset is the exact least or greatest value of f(x) - slope * x in the box: of the
ends, the kinks, and the points where f'(x) = slope, of which there is at most one between two inflections.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from raysafe.robustness.certify.interval import Interval, rounding
from raysafe.robustness.certify.operators import Elementwise, Lines

_HALVINGS = 26
_FAR = 100.0
"""Where every curve is straight."""
_FUNCTION_ROUNDING = 16
"""Roundings that an evaluation of a smooth function may err by, which each library keeps well below this."""


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x above 0 and slope * x below, for a slope from 0 (ReLU) to 1."""

    slope: float = 0.0

    def interval(self, *inputs: Interval) -> Interval:
        (x,) = inputs
        return Interval(self._value(x.lower), self._value(x.upper))

    def lines(self, x: Interval) -> Lines:
        """Above, the chord; below, of the two slopes that which leaves the smaller triangle."""
        lower, upper = x.lower, x.upper
        crossing = (lower < 0) & (upper > 0)
        width = torch.where(crossing, upper - lower, torch.ones_like(lower))
        one, less = lower.new_ones(()), lower.new_tensor(self.slope)
        sure = torch.where(lower >= 0, one, less)
        chord = torch.where(crossing, (upper - self.slope * lower) / width, sure)
        # the chord goes through (upper, upper), and through (lower, slope * lower)
        offset = torch.where(crossing, (self.slope - 1) * upper * lower / width, torch.zeros_like(lower))
        below = torch.where(crossing, torch.where(upper > -lower, one, less), sure)
        slack = torch.where(crossing, rounding(1, lower.dtype) * (x.magnitude + offset), torch.zeros_like(lower))
        return Lines(below, torch.zeros_like(lower), chord, offset + slack)

    def slopes(self, x: Interval) -> Tensor:
        return torch.where(x.upper > 0, x.upper.new_ones(()), x.upper.new_tensor(self.slope))

    def steepest(self) -> float:
        return 1.0

    def _value(self, x: Tensor) -> Tensor:
        return torch.relu(x) if not self.slope else functional.leaky_relu(x, self.slope)


@dataclass(frozen=True)
class Curve(Elementwise):
    """A continuous function by itself and its derivative.

    inflections: where the curvature changes its sign. kinks: where the derivative jumps; each is also an inflection.
    turns: where the derivative is 0 or changes its sign.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    inflections: tuple[float, ...] = ()
    turns: tuple[float, ...] = ()

    def interval(self, *inputs: Interval) -> Interval:
        (x,) = inputs
        points = [x.lower, x.upper, *(x.lower.maximum(x.upper.clamp(max=turn)) for turn in self.turns)]
        values = [self.value(point) for point in points]
        lower, upper = values[0], values[0]
        for value in values[1:]:
            lower, upper = torch.minimum(lower, value), torch.maximum(upper, value)
        slack = self._slack(x, torch.maximum(upper, -lower))
        return Interval(lower - slack, upper + slack)

    def lines(self, x: Interval) -> Lines:
        """Of the chord and three tangents, each shifted to touch, the lines that enclose the least area."""
        middle = x.centre
        best: list[Tensor] = []
        for slope in self._slopes(x, middle):
            below, above = self._offsets(x, slope)
            found = [slope, below, slope, above]
            if not best:
                best = found
                continue
            lower = slope * middle + below > best[0] * middle + best[1]
            upper = slope * middle + above < best[2] * middle + best[3]
            best = [torch.where(lower if i < 2 else upper, found[i], best[i]) for i in range(4)]
        return Lines(*best)

    def slopes(self, x: Interval) -> Tensor:
        """Of the ends and of the inflections, between which the derivative rises or falls."""
        points = [x.lower, x.upper, *(x.lower.maximum(x.upper.clamp(max=edge)) for edge in self.inflections)]
        steepest = self.derivative(points[0]).abs()
        for point in points[1:]:
            steepest = torch.maximum(steepest, self.derivative(point).abs())
        return steepest + _FUNCTION_ROUNDING * torch.finfo(steepest.dtype).eps

    def steepest(self) -> float:
        far = torch.tensor([-_FAR, *self.inflections, _FAR], dtype=torch.float64)
        return self.derivative(far).abs().amax().item() * (1 + 1e-9)

    def _slopes(self, x: Interval, middle: Tensor) -> list[Tensor]:
        lower, upper = x.lower, x.upper
        width, thin = upper - lower, upper - lower < 1e-4
        at_middle = self.derivative(middle)
        rise = self.value(upper) - self.value(lower)
        chord = torch.where(thin, at_middle, rise / torch.where(thin, torch.ones_like(width), width))
        return [chord, at_middle, self._touching(lower, middle, upper), self._touching(upper, middle, lower)]

    def _touching(self, end: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """Slope of the line through the curve at `end` that touches it between `near` and `far`, if there is one."""
        with torch.no_grad():
            start, stop = near.detach(), far.detach()
            at_end, through = end.detach(), self.value(end.detach())

            def beyond(point: Tensor) -> Tensor:
                return self.value(point) + self.derivative(point) * (at_end - point) > through

            first = beyond(start)
            for _ in range(_HALVINGS):
                half = (start + stop) / 2
                same = beyond(half) == first
                start, stop = torch.where(same, half, start), torch.where(same, stop, half)
        gap = stop - end
        thin = gap.abs() < 1e-4
        rise = self.value(stop) - self.value(end)
        return torch.where(thin, self.derivative(stop), rise / torch.where(thin, torch.ones_like(gap), gap))

    def _offsets(self, x: Interval, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The least and greatest f(x) - slope * x in the box."""
        points = [x.lower, x.upper]
        edges = [-math.inf, *self.inflections, math.inf]
        for left, right in pairwise(edges):
            low, high = (x.lower.maximum(x.upper.clamp(max=edge)) for edge in (left, right))
            points += [low, self._level(low, high, slope)]
        rests = [self.value(point) - slope * point for point in points]
        below, above = rests[0], rests[0]
        for rest in rests[1:]:
            below, above = torch.minimum(below, rest), torch.maximum(above, rest)
        slack = self._slack(x, torch.maximum(above, -below)) + rounding(4, slope.dtype) * slope.abs() * x.magnitude
        return below - slack, above + slack

    def _level(self, low: Tensor, high: Tensor, slope: Tensor) -> Tensor:
        """Where the derivative is `slope`, if anywhere, between two points with no inflection between them."""
        with torch.no_grad():
            slope, start, stop = slope.detach(), low.detach(), high.detach()
            rising = self.derivative(stop) >= self.derivative(start)
            for _ in range(_HALVINGS):
                half = (start + stop) / 2
                ahead = (self.derivative(half) < slope) == rising
                start, stop = torch.where(ahead, half, start), torch.where(ahead, stop, half)
        # the value's gradient by the box: none where the point is within, the end's where it is an end
        return torch.minimum(torch.maximum(start, low), high)

    def _slack(self, x: Interval, magnitude: Tensor) -> Tensor:
        share = _FUNCTION_ROUNDING * torch.finfo(magnitude.dtype).eps
        return share * (magnitude + x.magnitude.clamp(max=1.0))
