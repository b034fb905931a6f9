"""The smooth and the clipped activations, with the points where their shape changes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from raysafe.robustness.certify.activations import Curve

_GELU_TURN, _GELU_INFLECTION = -0.7517915246935645, math.sqrt(2.0)
_GELU_TANH_TURN, _GELU_TANH_INFLECTIONS = -0.7524614220710163, (-1.4185040088281684, 1.4185040088178864)
_SILU_TURN, _SILU_INFLECTION = -1.2784645427610738, 2.399357280520547


def _sigmoid_slope(x: Tensor) -> Tensor:
    value = torch.sigmoid(x)
    return value * (1 - value)


def _gelu_slope(x: Tensor) -> Tensor:
    below = 0.5 * torch.erfc(-x / math.sqrt(2.0))
    return below + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _gelu_tanh_slope(x: Tensor) -> Tensor:
    factor, cubic = math.sqrt(2 / math.pi), 0.044715
    value = torch.tanh(factor * (x + cubic * x**3))
    return 0.5 * (1 + value) + 0.5 * x * (1 - value * value) * factor * (1 + 3 * cubic * x * x)


def _silu_slope(x: Tensor) -> Tensor:
    value = torch.sigmoid(x)
    return value * (1 + x * (1 - value))


TANH = Curve(torch.tanh, lambda x: 1 - torch.tanh(x) ** 2, inflections=(0.0,))
SIGMOID = Curve(torch.sigmoid, _sigmoid_slope, inflections=(0.0,))
GELU = Curve(functional.gelu, _gelu_slope, (-_GELU_INFLECTION, _GELU_INFLECTION), (_GELU_TURN,))
GELU_TANH = Curve(_gelu_tanh, _gelu_tanh_slope, _GELU_TANH_INFLECTIONS, (_GELU_TANH_TURN,))
SILU = Curve(functional.silu, _silu_slope, (-_SILU_INFLECTION, _SILU_INFLECTION), (_SILU_TURN,))


def elu(alpha: float) -> Curve:
    """x above 0 and alpha * (exp(x) - 1) below, for an alpha of at least 0."""
    return Curve(
        lambda x: functional.elu(x, alpha),
        lambda x: torch.where(x > 0, torch.ones_like(x), alpha * torch.exp(x.clamp(max=0.0))),
        inflections=(0.0,),
    )


def leaky(slope: float) -> Curve:
    """x above 0 and slope * x below, for any slope."""
    return Curve(
        lambda x: functional.leaky_relu(x, slope),
        lambda x: torch.where(x > 0, x.new_ones(()), x.new_tensor(slope)),
        inflections=(0.0,),
        turns=(0.0,),
    )


def clipped(low: float, high: float) -> Curve:
    """x kept between two numbers, either of which may be infinite."""
    return Curve(
        lambda x: x.clamp(low, high),
        lambda x: ((x >= low) & (x <= high)).to(x.dtype),
        inflections=tuple(edge for edge in (low, high) if math.isfinite(edge)),
    )
