"""Small convolutional networks on images: classifiers, as a folder of config.json and model.safetensors.

    config.json        model_type: raysafe-vision, and the fields of VisionConfig
    model.safetensors  the module's tensors by their names, such as stage1.conv.weight

The network is a tree of torch's own modules (and Normalise and Residual below), so that a bound or an attribution can
walk it. Inputs are images in [0, 1], (B, C, H, W); their normalisation is the network's first layer.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from raysafe.config import Config
from raysafe.errors import ModelError
from raysafe.models.folder import check_tensors, read_config, read_tensors, write_folder
from raysafe.models.mlp import ClassifierHead

MODEL_TYPE = "raysafe-vision"
_MOST_PARAMETERS = 1 << 28
Width = Annotated[int, Field(ge=1, le=4096)]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}


class VisionConfig(Config):
    """Shape of a network: stages of convolutions, each halving the image, then dense layers."""

    image: tuple[Width, Width, Width] = Field(description="Channels, height and width of an image.")
    stages: tuple[Width, ...] = Field(min_length=1, max_length=16, description="Channels of each stage.")
    blocks: int = Field(
        default=0, ge=0, le=64, description="Residual blocks of two convolutions in each stage, behind its first one."
    )
    pooling: Literal["max", "average", "stride"] = Field(
        default="max", description="How a stage halves its image: by pooling, or by its first convolution's stride."
    )
    dense: tuple[Width, ...] = Field(default=(), max_length=16, description="Features of each hidden dense layer.")
    activation: Literal["relu", "leaky_relu", "tanh", "sigmoid", "gelu"] = "relu"
    batch_norm: bool = Field(default=False, description="Normalise over the batch behind each convolution.")
    mean: tuple[float, ...] | None = Field(
        default=None, description="Of each channel, subtracted from inputs; 0 by default."
    )
    std: tuple[Annotated[float, Field(gt=1e-6)], ...] | None = Field(
        default=None, description="Of each channel, by which inputs are divided; 1 by default."
    )
    head: ClassifierHead

    @model_validator(mode="after")
    def _possible(self) -> Self:
        channels, height, width = self.image
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and (len(values) != channels or not all(map(math.isfinite, values))):
                raise ValueError(f"{name} needs a finite number for each of the image's {channels} channels")
        if min(height, width) >> len(self.stages) < 1:
            raise ValueError(
                f"{len(self.stages)} stages halve an image of {height} x {width} below one pixel: take at most "
                f"{int(math.log2(min(height, width)))}"
            )
        # a config must not make a reader ask for all memory
        if self.parameters > _MOST_PARAMETERS:
            raise ValueError(f"the layers hold more than {_MOST_PARAMETERS:,} weights: this format is for small models")
        return self

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel."""
        channels = self.image[0]
        return self.mean or (0.0,) * channels, self.std or (1.0,) * channels

    @property
    def parameters(self) -> int:
        """Weights of the convolutions and dense layers, without biases."""
        convolutions = sum(
            9 * inputs * outputs + self.blocks * 18 * outputs * outputs
            for inputs, outputs in zip((self.image[0], *self.stages), self.stages, strict=False)
        )
        sizes = [self.flat, *self.dense, self.head.outputs]
        return convolutions + sum(a * b for a, b in pairwise(sizes))

    @property
    def flat(self) -> int:
        """Features behind the last stage."""
        height, width = self.image[1:]
        for _ in self.stages:
            height, width = self._halved(height), self._halved(width)
        return self.stages[-1] * height * width

    def _halved(self, size: int) -> int:
        # a strided convolution with padding 1 rounds up
        return (size + 1) // 2 if self.pooling == "stride" else size // 2


class Normalise(nn.Module):
    """(x - mean) / std of each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean_C: tuple[float, ...], std_C: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean_C).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std_C).view(-1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return (x_BCHW - self.mean) / self.std


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.body(x_BCHW)


class Vision(nn.Sequential):
    """Images (B, C, H, W) in [0, 1] to logits (B, K)."""

    def __init__(self, config: VisionConfig) -> None:
        activation = ACTIVATIONS[config.activation]
        channels = config.image[0]
        layers: dict[str, nn.Module] = {"normalise": Normalise(*config.normalisation)}
        for number, width in enumerate(config.stages, start=1):
            layers[f"stage{number}"] = _stage(config, channels, width)
            channels = width
        layers["flatten"] = nn.Flatten()
        features = config.flat
        for number, width in enumerate(config.dense, start=1):
            layers |= {f"dense{number}": nn.Linear(features, width), f"activation{number}": activation()}
            features = width
        layers["logits"] = nn.Linear(features, config.head.outputs)
        super().__init__(OrderedDict(layers))
        self.config = config


def _stage(config: VisionConfig, inputs: int, outputs: int) -> nn.Sequential:
    activation = ACTIVATIONS[config.activation]

    def convolution(name: str, before: int, stride: int = 1) -> dict[str, nn.Module]:
        layers: dict[str, nn.Module] = {name: nn.Conv2d(before, outputs, 3, stride=stride, padding=1)}
        return layers | ({f"{name}_norm": nn.BatchNorm2d(outputs)} if config.batch_norm else {})

    layers = convolution("conv", inputs, 2 if config.pooling == "stride" else 1)
    layers["activation"] = activation()
    for number in range(1, config.blocks + 1):
        body = {**convolution("conv1", outputs), "activation": activation(), **convolution("conv2", outputs)}
        layers[f"block{number}"] = Residual(nn.Sequential(OrderedDict(body)))
        layers[f"block{number}_activation"] = activation()
    if config.pooling != "stride":
        layers["pool"] = (nn.MaxPool2d if config.pooling == "max" else nn.AvgPool2d)(2)
    return nn.Sequential(OrderedDict(layers))


def default_stages(image: tuple[int, int, int]) -> tuple[int, ...]:
    """Channels of a small network's stages: wide where the image is small."""
    return (32, 64) if min(image[1:]) < 16 else (16, 32)


def cnn(image: tuple[int, int, int], labels: tuple[str, ...]) -> VisionConfig:
    """A small network for small images: 36 thousand weights on 8 x 8 digits, 106 thousand on 28 x 28 ones."""
    return VisionConfig(image=image, stages=default_stages(image), dense=(64,), head=ClassifierHead(labels=labels))


def save_vision(model: Vision, folder: str | Path) -> None:
    """Write config.json and model.safetensors; raises ModelError where weights aren't finite."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    check_tensors(folder, tensors, _shapes(model))
    write_folder(folder, MODEL_TYPE, model.config, tensors)


def load_vision(folder: str | Path) -> Vision:
    """The network in a folder, in eval mode; raises ModelError or ConfigError where it isn't exactly what it says."""
    config = read_vision_config(folder)
    tensors = read_tensors(folder)
    with torch.device("meta"):
        model = Vision(config)
    check_tensors(folder, tensors, _shapes(model))
    _check_values(folder, config, tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def read_vision_config(folder: str | Path) -> VisionConfig:
    """The shape that a folder's config.json states."""
    return read_config(folder, MODEL_TYPE, VisionConfig, "a small network on images")


def _check_values(folder: str | Path, config: VisionConfig, tensors: dict[str, Tensor]) -> None:
    for name, tensor in Normalise(*config.normalisation).state_dict().items():
        if not torch.equal(tensors[f"normalise.{name}"], tensor):
            raise ModelError(f"{folder}: normalise.{name} isn't the {name} that its config states")
    for name, tensor in tensors.items():
        if name.endswith("running_var") and tensor.min() < 0:
            raise ModelError(f"{folder}: {name} holds a variance below 0")


def _shapes(model: Vision) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}
