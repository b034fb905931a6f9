"""The posterior density of reward weights, also in unbounded coordinates: logits where the prior has bounds, Jacobian
included, which is where gradient samplers and normal approximations work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, logit

from raysafe.irl.bayes.likelihood import Likelihood
from raysafe.irl.bayes.priors import Prior
from raysafe.irl.bayes.successor import Piece
from raysafe.rl.mdp import Floats


@dataclass(frozen=True, eq=False)
class Target:
    """Likelihood times prior, up to its constant."""

    likelihood: Likelihood
    prior: Prior

    @property
    def dimensions(self) -> int:
        return self.likelihood.dimensions

    def weights(self, free_F: Floats) -> Floats:
        """Weights at unbounded coordinates, (..., F)."""
        if self.prior.bounds is None:
            return free_F
        low, high = self.prior.bounds
        return low + (high - low) * expit(free_F)

    def free(self, weights_F: Floats) -> Floats:
        """The coordinates of weights."""
        if self.prior.bounds is None:
            return weights_F
        low, high = self.prior.bounds
        return logit((weights_F - low) / (high - low))

    def log_stretch(self, free_F: Floats) -> Floats:
        """(...): the log of how much volume of weights there is to one of coordinates."""
        if self.prior.bounds is None:
            return np.zeros(free_F.shape[:-1])
        low, high = self.prior.bounds
        return (np.log(high - low) + log_expit(free_F) + log_expit(-free_F)).sum(axis=-1)

    def log_density(self, weights_F: Floats, near: Piece | None = None) -> tuple[float, Piece | None]:
        """Over weights; -inf outside the prior's bounds, where nothing is planned."""
        prior = float(self.prior.log_density(weights_F).sum())
        if prior == -np.inf:
            return prior, near
        likelihood, piece = self.likelihood.at(weights_F, near)
        return likelihood + prior, piece

    def free_gradient(self, free_F: Floats, near: Piece | None = None) -> tuple[float, Floats, Piece | None]:
        """(log density over unbounded coordinates, its gradient, piece); -inf and zeros where rounding has brought the
        weights onto a bound."""
        weights_F = self.weights(free_F)
        density = float(self.prior.log_density(weights_F).sum())
        if density == -np.inf:
            return density, np.zeros_like(free_F), near
        likelihood, slope_F, piece = self.likelihood.gradient_at(weights_F, near)
        slope_F = slope_F + self.prior.gradient(weights_F)
        if self.prior.bounds is not None:
            low, high = self.prior.bounds
            share_F = expit(free_F)
            stretch_F = (high - low) * share_F * expit(-free_F)
            density += float(self.log_stretch(free_F))
            slope_F = slope_F * stretch_F + 1 - 2 * share_F
        return likelihood + density, slope_F, piece
