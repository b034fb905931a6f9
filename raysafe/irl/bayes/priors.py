"""Priors of reward weights, the same and independent for each: normal, Laplace, uniform, and beta between bounds.

The choices of Ramachandran and Amir (2007, section 3.2): Laplace for rewards that are mostly nothing, beta with both
shapes below 1 for rewards at either end of their range (planning-like problems), uniform where nothing is known.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.special import betaln

from raysafe.config import Config
from raysafe.rl.mdp import Floats


class _Unbounded(Config):
    @property
    def bounds(self) -> None:
        return None


class _Bounded(Config):
    low: float = Field(default=-1.0, description="Least weight.")
    high: float = Field(default=1.0, description="Greatest weight.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class NormalPrior(_Unbounded):
    """Around a mean."""

    kind: Literal["normal"] = "normal"
    mean: float = Field(default=0.0, description="Mean of each weight.")
    scale: float = Field(default=1.0, gt=0, description="Standard deviation of each weight.")

    def log_density(self, weights_F: Floats) -> Floats:
        """Element-wise, normalised."""
        return -0.5 * ((weights_F - self.mean) / self.scale) ** 2 - np.log(self.scale * np.sqrt(2 * np.pi))

    def gradient(self, weights_F: Floats) -> Floats:
        """Of the log density, element-wise."""
        return -(weights_F - self.mean) / self.scale**2

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.normal(self.mean, self.scale, shape)


class LaplacePrior(_Unbounded):
    """Most weights near a mean, some far from it."""

    kind: Literal["laplace"] = "laplace"
    mean: float = Field(default=0.0, description="Median of each weight.")
    scale: float = Field(default=1.0, gt=0, description="Mean distance from the median.")

    def log_density(self, weights_F: Floats) -> Floats:
        """Element-wise, normalised."""
        return -np.abs(weights_F - self.mean) / self.scale - np.log(2 * self.scale)

    def gradient(self, weights_F: Floats) -> Floats:
        """Of the log density, element-wise; 0 at the mean, where it has none."""
        return -np.sign(weights_F - self.mean) / self.scale

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.laplace(self.mean, self.scale, shape)


class BetaPrior(_Bounded):
    """Between bounds, with beta shapes; both 1 is uniform."""

    kind: Literal["beta"] = "beta"
    alpha: float = Field(default=0.5, gt=0, description="Shape at the lower end.")
    beta: float = Field(default=0.5, gt=0, description="Shape at the upper end.")

    def log_density(self, weights_F: Floats) -> Floats:
        """Element-wise, normalised; -inf outside the bounds."""
        share_F = (weights_F - self.low) / (self.high - self.low)
        inside_F = (share_F > 0) & (share_F < 1)
        at_F = np.where(inside_F, share_F, 0.5)
        density_F = (self.alpha - 1) * np.log(at_F) + (self.beta - 1) * np.log1p(-at_F)
        edge_F = (share_F >= 0) & (share_F <= 1) if self.alpha == self.beta == 1 else inside_F
        return np.where(edge_F, density_F, -np.inf) - betaln(self.alpha, self.beta) - np.log(self.high - self.low)

    def gradient(self, weights_F: Floats) -> Floats:
        """Of the log density, element-wise, inside the bounds."""
        return (self.alpha - 1) / (weights_F - self.low) - (self.beta - 1) / (self.high - weights_F)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return self.low + (self.high - self.low) * rng.beta(self.alpha, self.beta, shape)


class UniformPrior(_Bounded):
    """Between bounds."""

    kind: Literal["uniform"] = "uniform"

    def log_density(self, weights_F: Floats) -> Floats:
        """Element-wise, normalised; -inf outside the bounds."""
        inside_F = (weights_F >= self.low) & (weights_F <= self.high)
        return np.where(inside_F, -np.log(self.high - self.low), -np.inf)

    def gradient(self, weights_F: Floats) -> Floats:
        return np.zeros_like(weights_F)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.uniform(self.low, self.high, shape)


Prior = Annotated[NormalPrior | LaplacePrior | UniformPrior | BetaPrior, Field(discriminator="kind")]
