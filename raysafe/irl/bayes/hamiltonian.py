"""Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011) over reward weights, with exact gradients.

Warming windows tune the step by dual averaging to a wanted acceptance (Hoffman and Gelman 2014, section 3.2), and the
diagonal metric by the variances of the window before. Path lengths are drawn, so that no period of the dynamics traps
a chain.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from raysafe.config import Config
from raysafe.irl.bayes.sampler import Drawn, State
from raysafe.irl.bayes.successor import Piece
from raysafe.irl.bayes.target import Target
from raysafe.rl.mdp import Floats

SHRINK, OFFSET, DECAY = 0.05, 10.0, 0.75
"""Dual averaging's gamma, t0 and kappa, as in the paper."""


class Hamiltonian(Config):
    """Gradient sampling."""

    kind: Literal["hamiltonian"] = "hamiltonian"
    acceptance: float = Field(default=0.8, gt=0, lt=1, description="Acceptance to which the step is tuned.")
    path: float = Field(
        default=1.6, gt=0, description="Mean length of a path, in standard deviations; lengths vary by half of it."
    )
    most_steps: int = Field(default=64, ge=1, description="Most leapfrog steps of a path.")

    def start(self, target: Target, rng: np.random.Generator) -> State:
        free_F = target.free(target.prior.draw(rng, (target.dimensions,)))
        ones_F = np.ones(target.dimensions)
        return {"free_F": free_F, "step": np.array([0.1]), "metric_F": ones_F, "variances_F": ones_F}

    def advance(
        self, target: Target, state: State, rng: np.random.Generator, draws: int, warming: bool
    ) -> tuple[State, Drawn]:
        metric_F = state["variances_F"] if warming else state["metric_F"]
        scale_F, step = np.sqrt(metric_F), float(state["step"][0])
        tuner = _Tuner(step, self.acceptance)
        free_F = state["free_F"]
        density, slope_F, piece = target.free_gradient(free_F)
        free_NF, draws_NF = np.empty((draws, target.dimensions)), np.empty((draws, target.dimensions))
        densities_N, accepted = np.empty(draws), 0
        for number in range(draws):
            momentum_F = rng.standard_normal(target.dimensions)
            length = self.path * rng.uniform(0.5, 1.5)
            steps = int(np.clip(np.rint(length / step), 1, self.most_steps))
            energy = density - 0.5 * momentum_F @ momentum_F
            moved = _leapfrog(target, free_F, momentum_F, slope_F, piece, step, steps, scale_F)
            moved_free_F, moved_momentum_F, moved_density, moved_slope_F, moved_piece = moved
            gain = moved_density - 0.5 * moved_momentum_F @ moved_momentum_F - energy
            chance = float(np.exp(min(0.0, gain))) if np.isfinite(gain) else 0.0
            if rng.random() < chance:
                free_F, density, slope_F, piece = moved_free_F, moved_density, moved_slope_F, moved_piece
                accepted += 1
            if warming:
                step = tuner.next(chance)
            free_NF[number], draws_NF[number] = free_F, target.weights(free_F)
            densities_N[number] = target.log_density(draws_NF[number], piece)[0]
        after: State = {
            "free_F": free_F,
            "step": np.array([tuner.settled() if warming else step]),
            "metric_F": metric_F,
            "variances_F": _variances(free_NF) if warming else state["variances_F"],
        }
        return after, Drawn(draws_NF, densities_N, accepted / draws)


class _Tuner:
    """Dual averaging of the log step."""

    def __init__(self, step: float, wanted: float) -> None:
        self.wanted, self.towards = wanted, np.log(10 * step)
        self.count, self.error, self.mean = 0, 0.0, 0.0

    def next(self, chance: float) -> float:
        """The step to try after a proposal that was accepted with this chance."""
        self.count += 1
        weight = 1 / (self.count + OFFSET)
        self.error += weight * (self.wanted - chance - self.error)
        log_step = self.towards - np.sqrt(self.count) / SHRINK * self.error
        share = self.count**-DECAY
        self.mean = share * log_step + (1 - share) * self.mean
        return float(np.exp(log_step))

    def settled(self) -> float:
        return float(np.exp(self.mean))


def _variances(free_NF: Floats) -> Floats:
    """Of a window, drawn towards a small number where it was short, as there is nothing to know from few draws."""
    count = len(free_NF)
    return free_NF.var(axis=0) * count / (count + 5) + 1e-3 * 5 / (count + 5)


def _leapfrog(
    target: Target,
    free_F: Floats,
    momentum_F: Floats,
    slope_F: Floats,
    piece: Piece | None,
    step: float,
    steps: int,
    scale_F: Floats,
) -> tuple[Floats, Floats, float, Floats, Piece | None]:
    """(place, momentum, density, slope, piece) at the end of a path; momenta are in units of the metric."""
    density = -np.inf
    momentum_F = momentum_F + 0.5 * step * scale_F * slope_F
    for number in range(steps):
        free_F = free_F + step * scale_F * momentum_F
        density, slope_F, piece = target.free_gradient(free_F, piece)
        if density == -np.inf:
            break
        last = number == steps - 1
        momentum_F = momentum_F + (0.5 if last else 1.0) * step * scale_F * slope_F
    return free_F, momentum_F, density, slope_F, piece
