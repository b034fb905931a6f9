"""Settings that the algorithms share: the network, where samples come from, and when they are judged."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config


class NetworkSettings(Config):
    """A multilayer perceptron over flat observations, a convolutional network over images."""

    hidden: tuple[int, ...] = Field(default=(64, 64), min_length=1, description="Width of each hidden layer.")
    activation: Literal["tanh", "relu", "silu"] = Field(default="tanh", description="Between the layers.")

    @model_validator(mode="after")
    def _wide(self) -> Self:
        if min(self.hidden) < 1:
            raise ValueError(f"network.hidden must be positive widths, got {self.hidden}")
        return self


class SamplingSettings(Config):
    """Where experience comes from. On few cores one process is fastest: no runner of its own, many environments."""

    runners: int = Field(
        default=0, ge=0, description="Processes that step environments; 0 does it where the learner is."
    )
    envs: int | None = Field(
        default=None, ge=1, description="Environments side by side in each; the algorithm's preset by default."
    )
    cpus_per_runner: float = Field(default=1, gt=0, allow_inf_nan=False, description="CPUs of each such process.")
    learners: int = Field(default=0, ge=0, description="Processes that compute gradients; 0 is the driver itself.")
    cpus_per_learner: float = Field(default=1, gt=0, allow_inf_nan=False, description="CPUs of each, or threads of it.")
    gpus_per_learner: float = Field(default=0, ge=0, le=1, allow_inf_nan=False, description="GPU, or share of one.")
    normalise: bool = Field(
        default=False, description="Bring observations to mean 0 and deviation 1, by all that were seen so far."
    )


class EvaluationSettings(Config):
    """Episodes in environments of their own, with seeds of their own, that nothing is learned from."""

    every: int = Field(default=20_000, ge=1, description="Environment steps between evaluations.")
    episodes: int = Field(default=20, ge=1, description="Episodes of each; always the same seeds.")
    explore: bool = Field(default=False, description="Draw actions as in training instead of taking the likeliest.")
    longest: int = Field(default=10_000, ge=1, description="An episode that goes on for so many steps is cut there.")
    frames: int = Field(default=12, ge=0, description="Frames of an episode that the report shows; 0 for none.")
