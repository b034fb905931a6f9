"""A normal approximation of the posterior of reward weights, by the evidence lower bound with reparameterised draws.

The draws are fixed (deterministic ADVI, Giordano, Ingram and Broderick 2023), so that the bound is a function like any
other and L-BFGS finds its optimum. What is normal is the vector of unbounded coordinates (see Target). Draws from the
approximation carry importance weights: they say how good it is, and resampling by them mends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import logsumexp

from raysafe.config import Config
from raysafe.errors import TrainingError
from raysafe.irl.bayes.sampler import Drawn
from raysafe.irl.bayes.successor import Piece
from raysafe.irl.bayes.target import Target
from raysafe.rl.mdp import Floats


class Variational(Config):
    """A normal approximation."""

    kind: Literal["variational"] = "variational"
    covariance: Literal["full", "diagonal"] = Field(
        default="full", description="All covariances, or variances only (mean field)."
    )
    samples: int = Field(default=256, ge=2, description="Fixed draws that the bound is averaged over.")
    resample: bool = Field(
        default=True, description="Resample draws by their importance weights, which mends the approximation."
    )
    most_iterations: int = Field(default=500, ge=1, description="Most iterations of L-BFGS.")


@dataclass(frozen=True, eq=False)
class Approximation:
    """Normal in unbounded coordinates."""

    mean_F: Floats
    factor_FF: Floats
    """Lower triangular; the covariance is its product with its transpose."""
    bound: float
    """The evidence lower bound at these, as the fixed draws have it."""


def fit_normal(target: Target, config: Variational, rng: np.random.Generator) -> Approximation:
    """Maximise the bound. Raises TrainingError where L-BFGS ends anywhere but at an optimum, or has too few samples."""
    size = target.dimensions
    if config.covariance == "full" and config.samples < 4 * size:
        raise TrainingError(
            f"a full covariance of {size} weights needs {4 * size} samples or more, got {config.samples}: raise "
            "sampler.samples, or set sampler.covariance to diagonal"
        )
    half_NF = rng.standard_normal((max(size, -(-config.samples // 2)), size))
    # their mean is 0 and their covariance 1 exactly: a posterior that is normal is then found as it is
    half_NF = np.asarray(np.linalg.qr(half_NF).Q, dtype=np.float64) * np.sqrt(len(half_NF))
    noise_NF = np.concatenate([half_NF, -half_NF])
    rows, columns = np.tril_indices(size, -1)
    if config.covariance == "diagonal":
        rows, columns = rows[:0], columns[:0]
    pieces: list[Piece | None] = [None] * len(noise_NF)

    def unpack(free_P: Floats) -> tuple[Floats, Floats]:
        factor_FF = np.diag(np.exp(free_P[size : 2 * size]))
        factor_FF[rows, columns] = free_P[2 * size :]
        return free_P[:size], factor_FF

    def loss(free_P: Floats) -> tuple[float, Floats]:
        mean_F, factor_FF = unpack(free_P)
        total, slope_mean_F, slope_FF = 0.0, np.zeros(size), np.zeros((size, size))
        for index, noise_F in enumerate(noise_NF):
            density, slope_F, pieces[index] = target.free_gradient(mean_F + factor_FF @ noise_F, pieces[index])
            total += density
            slope_mean_F += slope_F
            slope_FF += np.outer(slope_F, noise_F)
        count = len(noise_NF)
        bound = total / count + free_P[size : 2 * size].sum()
        slope_scale_F = np.diag(slope_FF) / count * np.diag(factor_FF) + 1.0
        slope_P = np.concatenate([slope_mean_F / count, slope_scale_F, slope_FF[rows, columns] / count])
        return -bound, np.asarray(-slope_P, dtype=np.float64)

    start_P = np.concatenate(
        [target.free(target.prior.draw(rng, (64, size))).mean(axis=0), np.full(size, -1.0), np.zeros(len(rows))]
    )
    found = minimize(loss, start_P, jac=True, method="L-BFGS-B", options={"maxiter": config.most_iterations})
    if found.nit >= config.most_iterations:
        raise TrainingError(
            f"the bound was still rising after {found.nit} iterations: raise sampler.most_iterations or use a sampler"
        )
    mean_F, factor_FF = unpack(found.x)
    constant = 0.5 * size * (1 + np.log(2 * np.pi))
    return Approximation(mean_F, factor_FF, float(constant - found.fun))


def draw_normal(
    target: Target, fitted: Approximation, draws: int, rng: np.random.Generator, resample: bool
) -> tuple[Drawn, float]:
    """Draws, resampled by importance where wanted, and the effective sample size of their importance weights."""
    noise_NF = rng.standard_normal((draws, target.dimensions))
    free_NF = fitted.mean_F + noise_NF @ fitted.factor_FF.T
    draws_NF, densities_N, piece = target.weights(free_NF), np.empty(draws), None
    for index, weights_F in enumerate(draws_NF):
        densities_N[index], piece = target.log_density(weights_F, piece)
    ratios_N = densities_N + target.log_stretch(free_NF) + 0.5 * (noise_NF**2).sum(axis=1)
    shares_N = np.exp(ratios_N - logsumexp(ratios_N))
    effective = float(1 / (shares_N**2).sum())
    if resample:
        # systematic: one draw decides all places, which adds least noise
        places_N = np.searchsorted(np.cumsum(shares_N), (rng.random() + np.arange(draws)) / draws)
        chosen_N = rng.permutation(np.minimum(places_N, draws - 1))
        draws_NF, densities_N = draws_NF[chosen_N], densities_N[chosen_N]
    return Drawn(draws_NF, densities_N, 1.0), effective
