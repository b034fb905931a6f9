"""PolicyWalk (Ramachandran and Amir 2007, figure 3): a Metropolis walk over a grid of reward weights.

A move changes one weight by some grid steps. The optimal values follow by one multiplication while the policy stays
optimal, and by policy iteration from that policy where it doesn't.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.irl.bayes.priors import Prior
from raysafe.irl.bayes.sampler import Drawn, State
from raysafe.irl.bayes.target import Target
from raysafe.rl.mdp import Floats


class PolicyWalk(Config):
    """A Metropolis walk over a grid of weights."""

    kind: Literal["policy_walk"] = "policy_walk"
    step: float = Field(default=0.1, gt=0, description="Distance between neighbouring points of the grid.")
    reach: int = Field(default=1, ge=1, description="Most grid steps of a move; the number is drawn uniformly.")
    moves: int | None = Field(
        default=None, ge=1, description="Moves between draws that are kept; as many as there are weights by default."
    )

    def start(self, target: Target, rng: np.random.Generator) -> State:
        """Raises ConfigError where the grid has no two points between the prior's bounds."""
        bounds = target.prior.bounds
        if bounds is not None and bounds[1] - bounds[0] < 2 * self.step:
            raise ConfigError(
                f"sampler.step ({self.step}) leaves less than two points between the prior's bounds {bounds}: lower it"
            )
        drawn_F = (target.prior.draw(rng, (target.dimensions,)) - origin(target.prior, self.step)) / self.step
        places_F = np.rint(drawn_F).astype(np.int64)
        if bounds is not None:
            places_F = np.clip(places_F, 0, int((bounds[1] - bounds[0]) / self.step + 1e-9) - 1)
        return {"places_F": places_F}

    def advance(
        self, target: Target, state: State, rng: np.random.Generator, draws: int, warming: bool
    ) -> tuple[State, Drawn]:
        likelihood, values, first = target.likelihood, target.likelihood.values, origin(target.prior, self.step)

        @lru_cache(4096)
        def log_prior(place: int) -> float:
            return float(target.prior.log_density(np.array(first + self.step * place)))

        moves, places_F = self.moves or target.dimensions, state["places_F"].copy()
        draws_NF, densities_N, accepted = np.empty((draws, target.dimensions)), np.empty(draws), 0
        piece, q = values.at(first + self.step * places_F)
        density = likelihood.of_values(q)
        for number in range(draws):
            which_M = rng.integers(target.dimensions, size=moves)
            by_M = rng.integers(1, self.reach + 1, size=moves) * rng.choice((-1, 1), size=moves)
            chance_M = np.log(rng.random(moves))
            for which, by, chance in zip(which_M.tolist(), by_M.tolist(), chance_M.tolist(), strict=True):
                place = int(places_F[which])
                gain = log_prior(place + by) - log_prior(place)
                if gain == -np.inf:
                    continue
                moved_q, moved_piece = q + (self.step * by) * piece.psi[which], piece
                if not piece.optimal_for(moved_q):
                    moved_F = first + self.step * places_F
                    moved_F[which] += self.step * by
                    moved_piece, moved_q = values.at(moved_F, piece)
                moved_density = likelihood.of_values(moved_q)
                if chance < moved_density - density + gain:
                    places_F[which] += by
                    piece, q, density = moved_piece, moved_q, moved_density
                    accepted += 1
            draws_NF[number] = first + self.step * places_F
            # sums of many steps are made anew before rounding shows
            q = piece.q(draws_NF[number])
            density = likelihood.of_values(q)
            densities_N[number] = density + sum(log_prior(int(place)) for place in places_F)
        return {"places_F": places_F}, Drawn(draws_NF, densities_N, accepted / (draws * moves))


def origin(prior: Prior, step: float) -> float:
    """A point of the grid: half a step above the prior's lower bound, or its mean."""
    if prior.bounds is not None:
        return prior.bounds[0] + step / 2
    return getattr(prior, "mean", 0.0)


def axis(prior: Prior, step: float, span: float | None = None) -> Floats:
    """The grid's points along one weight: all between the prior's bounds, or those within `span` of its mean."""
    if prior.bounds is not None:
        points = int((prior.bounds[1] - prior.bounds[0]) / step + 1e-9)
        return origin(prior, step) + step * np.arange(points, dtype=np.float64)
    if span is None:
        raise ConfigError(f"a {prior.kind} prior has no bounds: say how far from its mean the grid goes (span)")
    most = int(span / step + 1e-9)
    return origin(prior, step) + step * np.arange(-most, most + 1, dtype=np.float64)
