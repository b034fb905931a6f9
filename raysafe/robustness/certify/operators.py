"""What a bound needs to know of an operator: its image of a box, and lines between which it lies in the box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from raysafe.robustness.certify.interval import Interval, rounding


@dataclass(frozen=True)
class Lines:
    """lower_slope * x + lower_offset <= f(x) <= upper_slope * x + upper_offset for every x of a box, elementwise."""

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


class Operator(ABC):
    """A function of one activation, or of two of the same shape (Add)."""

    @abstractmethod
    def interval(self, *inputs: Interval) -> Interval:
        """A box that holds the operator's value for every input of the boxes."""


class Affine(Operator):
    """W x + b. Batches come first; rows of `transpose` are the batches and specifications of a bound, flattened."""

    terms: int = 1
    """The most products that one output or one input takes part in."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """W x + b."""

    @abstractmethod
    def magnify(self, radius: Tensor) -> Tensor:
        """|W| radius."""

    @abstractmethod
    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        """W^T of rows (N, output…), as (N, input…). shape: of an input, without the batch axis."""

    @abstractmethod
    def offset(self, rows_N: Tensor) -> Tensor | float:
        """The products (N,) of the rows with b."""

    @abstractmethod
    def gain(self) -> Tensor | float:
        """The greatest sum of magnitudes in a row of W."""

    @abstractmethod
    def greatest_offset(self) -> Tensor | float:
        """The greatest |b|."""

    def interval(self, *inputs: Interval) -> Interval:
        (x,) = inputs
        share = rounding(self.terms, x.lower.dtype)
        centre = self.apply(x.centre)
        radius = self.magnify(x.radius + share * x.magnitude) + share * centre.abs()
        return Interval(centre - radius, centre + radius)

    def error(self, x: Interval, inner_B: Tensor | float) -> Tensor:
        """By how much the outputs (B,) may differ from exact arithmetic's, where the inputs differ by `inner_B`."""
        share = rounding(self.terms, x.lower.dtype)
        greatest_B = x.magnitude.flatten(1).amax(1)
        return self.gain() * (inner_B + share * greatest_B) + 2 * share * self.greatest_offset()


class Add(Operator):
    """x + sign * y."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def interval(self, *inputs: Interval) -> Interval:
        x, y = inputs
        low, high = (y.lower, y.upper) if self.sign > 0 else (-y.upper, -y.lower)
        lower, upper = x.lower + low, x.upper + high
        slack = rounding(1, lower.dtype) * torch.maximum(upper, -lower)
        return Interval(lower - slack, upper + slack)

    def error(self, x: Interval, y: Interval, inner_B: Tensor | float) -> Tensor:
        share = rounding(1, x.lower.dtype)
        return inner_B + share * (x.magnitude.flatten(1).amax(1) + y.magnitude.flatten(1).amax(1))


class Nonlinear(Operator):
    """An operator with lines that depend on the box."""


class Elementwise(Nonlinear):
    """A function of each number by itself."""

    @abstractmethod
    def lines(self, x: Interval) -> Lines:
        """Lines that hold in the box."""

    @abstractmethod
    def slopes(self, x: Interval) -> Tensor:
        """The greatest magnitude of the derivative in the box."""

    @abstractmethod
    def steepest(self) -> float:
        """The greatest magnitude of the derivative anywhere."""


class Identity(Affine):
    """Dropout in eval mode, for one."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def magnify(self, radius: Tensor) -> Tensor:
        return radius

    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        return rows_N

    def offset(self, rows_N: Tensor) -> float:
        return 0.0

    def gain(self) -> float:
        return 1.0

    def greatest_offset(self) -> float:
        return 0.0

    def interval(self, *inputs: Interval) -> Interval:
        return inputs[0]

    def error(self, x: Interval, inner_B: Tensor | float) -> Tensor:
        return torch.as_tensor(inner_B, dtype=x.lower.dtype, device=x.lower.device)
