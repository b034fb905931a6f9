"""Small networks on vectors: classifiers and policies, as a folder of config.json and model.safetensors.

    config.json        model_type: raysafe-mlp, and the fields of MlpConfig
    model.safetensors  layers.N.weight (outputs, inputs) and layers.N.bias, float32, N from 0;
                       observation.mean and observation.std (inputs,), where normalise is true

Nothing in it is code, and nothing is read that its config doesn't name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from raysafe.config import Config
from raysafe.errors import ModelError
from raysafe.models.folder import check_tensors, read_config, read_tensors, write_folder
from raysafe.models.smoothed import check_samples

MODEL_TYPE = "raysafe-mlp"
_MOST_PARAMETERS = 1 << 28
_FEWEST_STD = 1e-8
FORBIDDEN = -1e9
"""Score of an action that a mask forbids: a probability of 0, whose gradient is finite."""
Activation = Literal["relu", "tanh", "silu", "gelu", "elu"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "elu": nn.functional.elu,
}
Bound = Annotated[float, Field(allow_inf_nan=False)] | None


class Smoothing(Config):
    """The classifier is served as its majority vote under Gaussian noise, with a certified radius (see smoothed.py)."""

    sigma: float = Field(gt=0, allow_inf_nan=False, description="Standard deviation of the noise, in inputs' units.")
    selection: int = Field(default=100, ge=1, le=10_000, description="Draws that choose the label.")
    samples: int = Field(default=1000, ge=1, le=100_000, description="Draws that bound its probability.")
    alpha: float = Field(default=0.001, gt=0, lt=1, description="How often a certificate may be wrong.")

    @model_validator(mode="after")
    def _can_certify(self) -> Self:
        check_samples(self.selection, self.samples, self.alpha)
        return self


class ClassifierHead(Config):
    """Logits of labels."""

    kind: Literal["classifier"] = "classifier"
    labels: tuple[str, ...] = Field(min_length=2, description="Names of the classes, in the order of the outputs.")
    smoothing: Smoothing | None = Field(default=None, description="Serve it smoothed, with certificates.")

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels) or not all(labels):
            raise ValueError("labels must differ, and none may be empty")
        return labels

    @property
    def outputs(self) -> int:
        return len(self.labels)


class DiscreteHead(Config):
    """Scores of discrete actions: the likeliest, or best, is taken; only from logits may an action be drawn."""

    kind: Literal["discrete"] = "discrete"
    actions: int = Field(ge=2, description="Number of actions.")
    scores: Literal["logits", "values"] = Field(
        default="logits", description="What the outputs are: logits of a distribution, or values of actions."
    )
    masked: bool = Field(
        default=False,
        description="The last inputs, one an action, are a mask: 1 where it is allowed, 0 where it is never taken.",
    )

    @property
    def outputs(self) -> int:
        return self.actions

    def allowed(self, raw_BA: Tensor, inputs_BD: Tensor) -> Tensor:
        """The outputs, in which an action that the mask forbids has the score FORBIDDEN."""
        return torch.where(inputs_BD[:, -self.actions :] > 0.5, raw_BA, FORBIDDEN) if self.masked else raw_BA


class GaussianHead(Config):
    """The mean of a continuous action, kept within its bounds, and its spread where there is one."""

    kind: Literal["gaussian"] = "gaussian"
    low: tuple[Bound, ...] = Field(min_length=1, description="Least value of each part of the action; null for none.")
    high: tuple[Bound, ...] = Field(min_length=1, description="Greatest value of each part; null for none.")
    spread: bool = Field(
        default=False,
        description="A second half of the outputs is the logarithm of each part's standard deviation, by which actions "
        "can be drawn.",
    )
    scaled: bool = Field(
        default=False, description="The outputs' -1 and 1 are low and high, between which actions are scaled."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        bounds = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or any(None not in (a, b) and a >= b for a, b in bounds):  # type: ignore[operator]
            raise ValueError("low and high need one value a part of the action each, low below high")
        if self.scaled and None in (*self.low, *self.high):
            raise ValueError("scaled needs both bounds of every part of the action")
        return self

    @property
    def outputs(self) -> int:
        return len(self.low) * (2 if self.spread else 1)

    def action(self, raw_BK: Tensor) -> Tensor:
        """Actions of the network's own outputs: scaled, and within the bounds."""
        low_K = raw_BK.new_tensor([-math.inf if bound is None else bound for bound in self.low])
        high_K = raw_BK.new_tensor([math.inf if bound is None else bound for bound in self.high])
        if self.scaled:
            raw_BK = low_K + (raw_BK + 1.0) * (high_K - low_K) / 2.0
        return raw_BK.clamp(low_K, high_K)


class ScalarHead(Config):
    """One number without bounds: a reward or a value."""

    kind: Literal["scalar"] = "scalar"

    @property
    def outputs(self) -> int:
        return 1


class MlpConfig(Config):
    """Shape of a network: linear layers with one activation between them."""

    inputs: int = Field(ge=1, le=1 << 20, description="Features of an input vector.")
    hidden: tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...] = Field(
        default=(), max_length=64, description="Features of each hidden layer."
    )
    activation: Activation = Field(default="tanh", description="After each hidden layer.")
    normalise: bool = Field(
        default=False, description="Inputs become (input - observation.mean) / observation.std first."
    )
    clip: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Normalised inputs are kept between -clip and clip."
    )
    head: ClassifierHead | DiscreteHead | GaussianHead | ScalarHead = Field(discriminator="kind")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        # a config must not make a reader ask for all memory
        if sum(a * b for a, b in self.layers) > _MOST_PARAMETERS:
            raise ValueError(f"the layers hold more than {_MOST_PARAMETERS:,} weights: this format is for small models")
        if isinstance(self.head, DiscreteHead) and self.head.masked and self.inputs <= self.head.actions:
            raise ValueError(f"a masked head needs inputs besides the mask of {self.head.actions}, got {self.inputs}")
        if self.clip is not None and not self.normalise:
            raise ValueError("clip is for normalised inputs, and has no effect without normalise: leave it out")
        return self

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each linear layer."""
        sizes = [self.inputs, *self.hidden, self.head.outputs]
        return list(pairwise(sizes))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor in the file."""
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (inputs, outputs) in enumerate(self.layers):
            shapes |= {f"layers.{number}.weight": (outputs, inputs), f"layers.{number}.bias": (outputs,)}
        if self.normalise:
            shapes |= {"observation.mean": (self.inputs,), "observation.std": (self.inputs,)}
        return shapes


class Mlp(nn.Module):
    """`forward` gives (B, K): logits, values, or a bounded mean. `raw` gives the last layer's outputs as they are."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList([nn.Linear(inputs, outputs) for inputs, outputs in config.layers])
        if config.normalise:
            self.observation = nn.Module()
            self.observation.register_buffer("mean", torch.zeros(config.inputs))
            self.observation.register_buffer("std", torch.ones(config.inputs))

    def forward(self, inputs_BD: Tensor) -> Tensor:
        raw_BK, head = self.raw(inputs_BD), self.config.head
        return head.action(raw_BK[:, : len(head.low)]) if isinstance(head, GaussianHead) else raw_BK

    def raw(self, inputs_BD: Tensor) -> Tensor:
        """Of a continuous action, its mean before scaling and bounds, then the logarithms of its deviations."""
        hidden_BD = inputs_BD
        if self.config.normalise:
            hidden_BD = (inputs_BD - self.observation.get_buffer("mean")) / self.observation.get_buffer("std")
        if self.config.clip is not None:
            hidden_BD = hidden_BD.clamp(-self.config.clip, self.config.clip)
        for layer in self.layers[:-1]:
            hidden_BD = _ACTIVATIONS[self.config.activation](layer(hidden_BD))
        raw_BK, head = self.layers[-1](hidden_BD), self.config.head
        return head.allowed(raw_BK, inputs_BD) if isinstance(head, DiscreteHead) else raw_BK


def save_mlp(model: Mlp, folder: str | Path) -> None:
    """Write config.json and model.safetensors; raises ModelError where weights aren't finite."""
    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in model.state_dict().items()}
    _check(model.config, tensors, folder)
    write_folder(folder, MODEL_TYPE, model.config, tensors)


def load_mlp(folder: str | Path) -> Mlp:
    """The network in a folder, in eval mode; raises ModelError or ConfigError where it isn't exactly what it says."""
    config = read_mlp_config(folder)
    tensors = read_tensors(folder)
    _check(config, tensors, folder)
    with torch.device("meta"):
        model = Mlp(config)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def read_mlp_config(folder: str | Path) -> MlpConfig:
    """The shape that a folder's config.json states."""
    return read_config(folder, MODEL_TYPE, MlpConfig, "a small network on vectors")


def _check(config: MlpConfig, tensors: dict[str, Tensor], folder: str | Path) -> None:
    check_tensors(folder, tensors, {name: (shape, torch.float32) for name, shape in config.shapes.items()})
    if config.normalise and tensors["observation.std"].min() < _FEWEST_STD:
        raise ModelError(f"{folder}: observation.std must be at least {_FEWEST_STD:g} everywhere")
