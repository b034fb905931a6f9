"""Which operator bounds which of torch's modules, functions and methods.

A rule has the signature of what it stands for, gets activations in the place of tensors, and returns the operator and
what it is applied to. What no rule names has no bound.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysafe.errors import ModelError
from raysafe.robustness.certify import curves
from raysafe.robustness.certify.activations import LeakyRelu
from raysafe.robustness.certify.affine import Averages, Convolution, Dense, Reshape, ScaleShift
from raysafe.robustness.certify.operators import Add, Identity, Operator
from raysafe.robustness.certify.pooling import MaxPool

Pair = tuple[int, int]


@dataclass(frozen=True)
class Activation:
    """A tensor that depends on the input: the number of its entry, and its shape with the batch axis."""

    number: int
    shape: torch.Size

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> torch.Size | int:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Applied:
    operator: Operator
    inputs: tuple[Activation, ...]


Rule = Callable[..., Applied]


def _one(made: Operator, x: Activation) -> Applied:
    if not isinstance(x, Activation):
        raise ModelError("its first argument doesn't depend on the input")
    return Applied(made, (x,))


def linear(x: Activation, weight: Tensor, bias: Tensor | None = None) -> Applied:
    return _one(Dense(weight, bias), x)


def conv2d(
    x: Activation,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Applied:
    steps = _pair(dilation)
    if isinstance(padding, str):
        spans = [step * (size - 1) for step, size in zip(steps, weight.shape[2:], strict=True)]
        if padding == "same" and any(span % 2 for span in spans):
            raise ModelError("padding 'same' of an even kernel pads one edge more than the other: pad in numbers")
        padding = tuple(span // 2 for span in spans) if padding == "same" else 0
    _image(x)
    return _one(Convolution(weight, bias, _pair(stride), _pair(padding), steps, groups), x)


def batch_norm(
    x: Activation,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Applied:
    if training or running_mean is None or running_var is None:
        raise ModelError("it normalises by its batch, not by running statistics, so one input's output has no bound")
    scale_C = torch.rsqrt(running_var + eps)
    scale_C = scale_C if weight is None else scale_C * weight
    shift_C = -running_mean * scale_C
    shift_C = shift_C if bias is None else shift_C + bias
    shape = (-1, *[1] * (x.ndim - 2))
    return _one(ScaleShift(scale_C.view(shape), shift_C.view(shape)), x)


def add(x: Any, y: Any, *, alpha: float = 1.0) -> Applied:
    if isinstance(x, Activation) and isinstance(y, Activation):
        if x.shape != y.shape:
            raise ModelError(f"it adds activations of the shapes {tuple(x.shape)} and {tuple(y.shape)}")
        if abs(alpha) != 1:
            raise ModelError(f"it adds {alpha:g} times an activation: multiply first")
        return Applied(Add(float(alpha)), (x, y))
    if isinstance(x, Activation):
        return _one(ScaleShift(shift=_constant(x, y) * alpha), x)
    return _one(ScaleShift(alpha, _constant(y, x)), y)


def subtract(x: Any, y: Any, *, alpha: float = 1.0) -> Applied:
    return add(x, y, alpha=-alpha)


def multiply(x: Any, y: Any) -> Applied:
    if isinstance(x, Activation) and isinstance(y, Activation):
        raise ModelError("it multiplies two activations")
    activation, factor = (x, y) if isinstance(x, Activation) else (y, x)
    return _one(ScaleShift(_constant(activation, factor)), activation)


def divide(x: Any, y: Any) -> Applied:
    if isinstance(y, Activation):
        raise ModelError("it divides by an activation")
    return _one(ScaleShift(1 / _constant(x, y)), x)


def clamp(x: Activation, min: float | None = None, max: float | None = None) -> Applied:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise ModelError("it clamps by tensors: only numbers have a bound")
    low, high = -math.inf if min is None else float(min), math.inf if max is None else float(max)
    return _one(curves.clipped(low, high), x)


def relu(x: Activation, inplace: bool = False) -> Applied:
    return _one(LeakyRelu(), x)


def leaky_relu(x: Activation, negative_slope: float = 0.01, inplace: bool = False) -> Applied:
    slope = float(negative_slope)
    return _one(LeakyRelu(slope) if 0 <= slope <= 1 else curves.leaky(slope), x)


def tanh(x: Activation) -> Applied:
    return _one(curves.TANH, x)


def sigmoid(x: Activation) -> Applied:
    return _one(curves.SIGMOID, x)


def gelu(x: Activation, *, approximate: str = "none") -> Applied:
    return _one(curves.GELU_TANH if approximate == "tanh" else curves.GELU, x)


def silu(x: Activation, inplace: bool = False) -> Applied:
    return _one(curves.SILU, x)


def elu(x: Activation, alpha: float = 1.0, inplace: bool = False) -> Applied:
    if alpha < 0:
        raise ModelError(f"its alpha is below 0: {alpha:g}")
    return _one(curves.elu(float(alpha)), x)


def hardtanh(x: Activation, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Applied:
    return clamp(x, min_val, max_val)


def relu6(x: Activation, inplace: bool = False) -> Applied:
    return clamp(x, 0.0, 6.0)


def flatten(x: Activation, start_dim: int = 0, end_dim: int = -1) -> Applied:
    if start_dim % x.ndim == 0:
        raise ModelError("it flattens the batch axis: start at 1")
    return _one(Reshape(lambda value: value.flatten(start_dim, end_dim)), x)


def reshape(x: Activation, *shape: Any) -> Applied:
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    found = torch.empty(x.shape, device="meta").reshape(sizes)
    if found.shape[0] != x.shape[0]:
        raise ModelError(f"it changes the batch axis, from shape {tuple(x.shape)} to {tuple(found.shape)}")
    inner = found.shape[1:]
    return _one(Reshape(lambda value: value.reshape(len(value), *inner)), x)


def dropout(x: Activation, p: float = 0.5, training: bool = True, inplace: bool = False) -> Applied:
    if training:
        raise ModelError("it drops at random in eval mode as well")
    return _one(Identity(), x)


def avg_pool2d(
    x: Activation,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Applied:
    if divisor_override is not None:
        raise ModelError("its divisor_override has no bound")
    _image(x)

    def average(value: Tensor) -> Tensor:
        return functional.avg_pool2d(value, kernel_size, stride, padding, ceil_mode, count_include_pad)

    return _one(Averages(average, math.prod(_pair(kernel_size))), x)


def adaptive_avg_pool2d(x: Activation, output_size: Any) -> Applied:
    height, width = _image(x)
    return _one(Averages(lambda value: functional.adaptive_avg_pool2d(value, output_size), height * width), x)


def mean(x: Activation, dim: Any = None, keepdim: bool = False) -> Applied:
    axes = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if not axes or any(axis % x.ndim == 0 for axis in axes):
        raise ModelError("it averages over the batch axis")
    return _one(Averages(lambda value: value.mean(axes, keepdim), math.prod(x.shape[axis] for axis in axes)), x)


def max_pool2d(
    x: Activation,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Applied:
    if ceil_mode or return_indices:
        raise ModelError("max pooling with ceil_mode or return_indices has no bound: pool without")
    _image(x)
    kernel = _pair(kernel_size)
    return _one(MaxPool(kernel, _pair(stride) if stride else kernel, _pair(padding), _pair(dilation)), x)


def adaptive_max_pool2d(x: Activation, output_size: Any, return_indices: bool = False) -> Applied:
    sizes = _image(x)
    wanted = [size if out is None else out for size, out in zip(sizes, _pair(output_size), strict=True)]
    if return_indices or any(size % out for size, out in zip(sizes, wanted, strict=True)):
        raise ModelError(f"adaptive max pooling from {sizes} to {tuple(wanted)} has no bound: only to even parts")
    height, width = (size // out for size, out in zip(sizes, wanted, strict=True))
    return _one(MaxPool((height, width), (height, width)), x)


def negative(x: Activation) -> Applied:
    return _one(ScaleShift(-1.0), x)


def _pair(value: Any) -> tuple[Any, Any]:
    first, second = (value, value) if value is None or isinstance(value, int) else value
    return first, second


def _image(x: Activation) -> Pair:
    if x.ndim != 4:
        raise ModelError(f"it takes images (B, C, H, W), and got the shape {tuple(x.shape)}")
    return x.shape[2], x.shape[3]


def _constant(x: Activation, value: Any) -> Tensor | float:
    """Checked to be the same for every input of the batch, and not to enlarge the activation."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.ndim == x.ndim and value.shape[0] == 1:
        value = value[0]
    if value.ndim >= x.ndim or torch.broadcast_shapes(value.shape, x.shape) != x.shape:
        raise ModelError(f"its constant of shape {tuple(value.shape)} doesn't fit an activation of {tuple(x.shape)}")
    return value


def _same(rule: Rule, *names: str) -> Callable[[nn.Module], Rule]:
    """The rule of a module without parameters, which keeps the function's arguments as attributes."""
    return lambda module: lambda x: rule(x, **{name: getattr(module, name) for name in names})


def _convolution(module: nn.Module) -> Rule:
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        raise ModelError(f"padding by '{module.padding_mode}' has no bound: pad by zeros")
    settings = (module.stride, module.padding, module.dilation, module.groups)
    return lambda x: conv2d(x, module.weight, module.bias, *settings)


def _batch_norm(module: nn.Module) -> Rule:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    statistics = (module.running_mean, module.running_var, module.weight, module.bias)
    return lambda x: batch_norm(x, *statistics, eps=module.eps)


def _dropout(module: nn.Module) -> Rule:
    return lambda x: dropout(x, training=False)


_POOL = ("kernel_size", "stride", "padding")
MODULES: dict[type, Callable[[Any], Rule]] = {
    nn.Linear: lambda module: lambda x: linear(x, module.weight, module.bias),
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _same(relu),
    nn.LeakyReLU: _same(leaky_relu, "negative_slope"),
    nn.Tanh: _same(tanh),
    nn.Sigmoid: _same(sigmoid),
    nn.GELU: _same(gelu, "approximate"),
    nn.SiLU: _same(silu),
    nn.ELU: _same(elu, "alpha"),
    nn.Hardtanh: _same(hardtanh, "min_val", "max_val"),
    nn.ReLU6: _same(relu6),
    nn.Flatten: _same(flatten, "start_dim", "end_dim"),
    nn.Identity: _dropout,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
    nn.AvgPool2d: _same(avg_pool2d, *_POOL, "ceil_mode", "count_include_pad", "divisor_override"),
    nn.AdaptiveAvgPool2d: _same(adaptive_avg_pool2d, "output_size"),
    nn.MaxPool2d: _same(max_pool2d, *_POOL, "dilation", "ceil_mode", "return_indices"),
    nn.AdaptiveMaxPool2d: _same(adaptive_max_pool2d, "output_size", "return_indices"),
}
FUNCTIONS: dict[Any, Rule] = {
    functional.linear: linear,
    functional.conv2d: conv2d,
    functional.batch_norm: batch_norm,
    functional.dropout: dropout,
    functional.avg_pool2d: avg_pool2d,
    functional.adaptive_avg_pool2d: adaptive_avg_pool2d,
    functional.max_pool2d: max_pool2d,
    functional.adaptive_max_pool2d: adaptive_max_pool2d,
    functional.hardtanh: hardtanh,
    functional.relu6: relu6,
    **dict.fromkeys((torch.relu, functional.relu), relu),
    **dict.fromkeys((functional.leaky_relu,), leaky_relu),
    **dict.fromkeys((torch.tanh, functional.tanh), tanh),
    **dict.fromkeys((torch.sigmoid, functional.sigmoid), sigmoid),
    functional.gelu: gelu,
    functional.silu: silu,
    functional.elu: elu,
    torch.flatten: flatten,
    torch.reshape: reshape,
    torch.mean: mean,
    torch.clamp: clamp,
    **dict.fromkeys((torch.add, operator.add, operator.iadd), add),
    **dict.fromkeys((torch.sub, operator.sub, operator.isub), subtract),
    **dict.fromkeys((torch.mul, operator.mul, operator.imul), multiply),
    **dict.fromkeys((torch.div, operator.truediv, operator.itruediv), divide),
    **dict.fromkeys((torch.neg, operator.neg), negative),
}
METHODS: dict[str, Rule] = {
    "relu": relu,
    "relu_": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "flatten": flatten,
    "view": reshape,
    "reshape": reshape,
    "mean": mean,
    "clamp": clamp,
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "neg": negative,
    "contiguous": lambda x: _one(Identity(), x),
}
