"""Affine operators: dense layers, convolutions, scales and shifts, averages, and changes of shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from raysafe.robustness.certify.interval import Interval
from raysafe.robustness.certify.operators import Affine

Pair = tuple[int, int]
_FEW_CHANNELS = 4
"""Up to which a transposed convolution is faster as a product and a sum of windows: 1 channel 4.6 times, 8 never."""
_SMALL_MATRIX = 1 << 16
"""Entries up to which it is faster still as a product with the whole matrix."""


@dataclass(frozen=True, eq=False)
class Dense(Affine):
    """weight (outputs, inputs) on the last axis."""

    weight: Tensor
    bias: Tensor | None

    @property
    def terms(self) -> int:
        return max(self.weight.shape)

    def apply(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def magnify(self, radius: Tensor) -> Tensor:
        return functional.linear(radius, self.weight.abs())

    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        return rows_N @ self.weight

    def offset(self, rows_N: Tensor) -> Tensor | float:
        return 0.0 if self.bias is None else (rows_N @ self.bias).reshape(len(rows_N), -1).sum(1)

    def gain(self) -> Tensor:
        return self.weight.abs().sum(1).amax()

    def greatest_offset(self) -> Tensor | float:
        return 0.0 if self.bias is None else self.bias.abs().amax()


@dataclass(frozen=True, eq=False)
class Convolution(Affine):
    """weight (outputs, inputs / groups, kernel height, kernel width) on (N, C, H, W), zeros about the image."""

    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def terms(self) -> int:
        outputs, inputs, height, width = self.weight.shape
        return max(inputs, outputs // self.groups) * height * width

    def apply(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def magnify(self, radius: Tensor) -> Tensor:
        return self._convolve(radius, self.weight.abs())

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        kernel, sizes, outputs = self.weight.shape[2:], shape[1:], rows_N.shape[2:]
        if self.groups == 1 and shape[0] <= _FEW_CHANNELS:
            if shape.numel() * rows_N.shape[1:].numel() <= _SMALL_MATRIX:
                units = torch.eye(shape.numel(), dtype=rows_N.dtype, device=rows_N.device).view(-1, *shape)
                return (rows_N.flatten(1) @ self._convolve(units, self.weight).flatten(1).T).view(-1, *shape)
            columns = self.weight.flatten(1).T @ rows_N.flatten(2)
            return functional.fold(columns, sizes, kernel, self.dilation, self.padding, self.stride)
        # what a stride leaves over at the far edge
        left = [
            sizes[i]
            - ((outputs[i] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (kernel[i] - 1) + 1)
            for i in range(2)
        ]
        return functional.conv_transpose2d(
            rows_N, self.weight, None, self.stride, self.padding, left, self.groups, self.dilation
        )

    def offset(self, rows_N: Tensor) -> Tensor | float:
        return 0.0 if self.bias is None else rows_N.sum((2, 3)) @ self.bias

    def gain(self) -> Tensor:
        return self.weight.abs().flatten(1).sum(1).amax()

    def greatest_offset(self) -> Tensor | float:
        return 0.0 if self.bias is None else self.bias.abs().amax()


@dataclass(frozen=True, eq=False)
class ScaleShift(Affine):
    """scale * x + shift, each a number or of a shape that broadcasts to x's without enlarging it."""

    scale: Tensor | float = 1.0
    shift: Tensor | float = 0.0
    terms = 4

    def apply(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def magnify(self, radius: Tensor) -> Tensor:
        return radius * abs(self.scale)

    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        return rows_N * self.scale

    def offset(self, rows_N: Tensor) -> Tensor | float:
        if isinstance(self.shift, float) and not self.shift:
            return 0.0
        return (rows_N * self.shift).flatten(1).sum(1)

    def gain(self) -> Tensor | float:
        return _greatest(self.scale)

    def greatest_offset(self) -> Tensor | float:
        return _greatest(self.shift)


@dataclass(frozen=True, eq=False)
class Averages(Affine):
    """Sums with weights of at least 0 that come to 1 at most, such as an average pooling, or a choice of entries.

    function: linear, of inputs with their batch axis. terms: the most products that an input or output takes part in.
    """

    function: Callable[[Tensor], Tensor]
    terms: int = 1
    most: float = 1.0
    """The greatest sum of weights of an output."""

    def apply(self, x: Tensor) -> Tensor:
        return self.function(x)

    def magnify(self, radius: Tensor) -> Tensor:
        return self.function(radius)

    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        with torch.enable_grad():
            x = torch.zeros((len(rows_N), *shape), dtype=rows_N.dtype, device=rows_N.device, requires_grad=True)
            (found,) = torch.autograd.grad(self.function(x), x, rows_N, create_graph=rows_N.requires_grad)
        return found

    def offset(self, rows_N: Tensor) -> float:
        return 0.0

    def gain(self) -> float:
        return self.most

    def greatest_offset(self) -> float:
        return 0.0


@dataclass(frozen=True, eq=False)
class Reshape(Averages):
    """The same numbers in another shape."""

    def interval(self, *inputs: Interval) -> Interval:
        (x,) = inputs
        return Interval(self.function(x.lower), self.function(x.upper))

    def transpose(self, rows_N: Tensor, shape: torch.Size) -> Tensor:
        return rows_N.reshape(len(rows_N), *shape)


def _greatest(value: Tensor | float) -> Tensor | float:
    return value.abs().amax() if isinstance(value, Tensor) else abs(value)
