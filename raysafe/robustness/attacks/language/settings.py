"""Settings of the attacks on language models; importing this needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysafe.config import Config


class GCGSettings(Config):
    """Greedy coordinate gradient (Zou et al. 2023)."""

    target: str = Field(default="Sure, here", min_length=1, description="What the answer is to begin with.")
    length: int = Field(default=20, ge=1, le=256, description="Tokens of the suffix.")
    steps: int = Field(default=100, ge=1, le=100_000, description="Substitutions that are tried one after the other.")
    candidates: int = Field(default=128, ge=1, le=65_536, description="Suffixes that are scored in a step.")
    top_k: int = Field(default=64, ge=1, description="Tokens of each place that the gradient proposes.")
    proposals: Literal["gradient", "random"] = Field(
        default="gradient", description="random draws any token: the control that shows what the gradient is worth."
    )
    seed: int = Field(default=0, ge=0)


class EmbeddingSettings(Config):
    """Signed gradient descent on a suffix's embeddings (Schwinn et al. 2024): what no text may say, a vector may."""

    target: str = Field(default="Sure, here", min_length=1, description="What the answer is to begin with.")
    length: int = Field(default=20, ge=1, le=256, description="Tokens of the suffix.")
    steps: int = Field(default=100, ge=1, le=100_000, description="Gradient steps.")
    step_size: float = Field(default=0.001, gt=0, allow_inf_nan=False, description="By which each feature moves.")
