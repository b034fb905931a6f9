"""Settings of the learners that imitate, apart from them: so that help needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysafe.config import Config
from raysafe.irl.demonstrations import Objective
from raysafe.rl.transitions import Sees
from raysafe.runtime.learner import FitConfig

Activation = Literal["relu", "tanh", "silu", "gelu", "elu"]


class CloningSettings(Config):
    """The cloned policy and how it is fitted."""

    hidden: tuple[int, ...] = Field(default=(64, 64), description="Features of each hidden layer.")
    activation: Activation = Field(default="tanh", description="After each hidden layer.")
    training: FitConfig = FitConfig(
        epochs=20, batch_size=256, learning_rate=2e-3, weight_decay=1e-3, micro_tokens=8192, patience=4
    )
    """patience: validations (one an epoch) without a better held-out likelihood before it stops."""


class AdversarialSettings(Config):
    """The discriminator and how it is fitted between the policy's iterations."""

    hidden: tuple[int, ...] = Field(default=(32, 32), description="Features of each hidden layer, of g and of h.")
    activation: Activation = Field(default="tanh", description="After each hidden layer.")
    sees: Sees = Field(
        default="state-action", description="What g depends on; AIRL's reward transfers best where it is the state."
    )
    shaped: bool = Field(default=True, description="AIRL: take a learned potential h apart from the reward g.")
    learning_rate: float = Field(
        default=3e-3, gt=0, allow_inf_nan=False, description="Of AdamW, falling to 0 at the last step."
    )
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False, description="Of AdamW.")
    batch_size: int = Field(default=512, ge=1, description="Steps of each side in one update.")
    updates: int = Field(default=8, ge=1, description="Updates after each of the policy's iterations.")
    replay: int = Field(default=4, ge=1, description="Latest iterations whose steps stand for the agent.")
    episodes: int = Field(default=100, ge=1, description="Latest episodes by which the agent's time is divided.")


class DeepMaxEntSettings(Config):
    """The network of deep maximum entropy, and how it is trained."""

    hidden: tuple[int, ...] = Field(default=(32, 32), description="Units of each hidden layer; none for a linear one.")
    learning_rate: float = Field(default=0.01, gt=0, description="Adam's step; it falls to 0 along a cosine.")
    weight_decay: float = Field(default=1e-4, ge=0, description="Decay of the weights in each step (AdamW).")
    iterations: int = Field(default=300, ge=1, description="Steps, each over all demonstrations.")
    objective: Objective = Field(default="likelihood", description="As of the linear method.")
    seed: int = Field(default=0, ge=0, description="Of the first weights.")
