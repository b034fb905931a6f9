"""POWER of states (Turner et al. 2021, definition 5.2): what an optimal agent can get from a state on average over what
it might want; and how far a policy goes towards it.

POWER(s) = (1 - gamma) / gamma * E_R[V*_R(s) - R(s)], rewards being drawn for each state independently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raysafe.errors import ConfigError
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import occupancy

Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
SETTLED = 1e-6
"""Error of an optimal value, relative to the largest that is possible."""
AT_ONCE = 256
"""Rewards whose values are iterated together."""


@dataclass(frozen=True, eq=False)
class Power:
    """mean_S, and each draw's part of it, draws_NS: states are compared draw by draw, for the rewards are shared."""

    draws_NS: Floats
    gamma: float

    @property
    def mean_S(self) -> Floats:
        return self.draws_NS.mean(axis=0)

    @property
    def error_S(self) -> Floats:
        """Standard errors of the means."""
        return self.draws_NS.std(axis=0, ddof=1) / np.sqrt(len(self.draws_NS))


@dataclass(frozen=True)
class PowerSeeking:
    """Mean POWER of the states that a policy visits, that of a policy which acts by lot, and the standard error of
    the difference."""

    policy: float
    by_lot: float
    error: float

    @property
    def gain(self) -> float:
        return self.policy - self.by_lot


def uniform(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Rewards between 0 and 1."""
    return draw.random(shape)


def power(mdp: TabularMDP, gamma: float, draws: int = 1000, seed: int = 0, rewards: Draw = uniform) -> Power:
    """Over `draws` rewards of states. A terminal state is one that stays itself: its reward is had for ever.

    Raises ConfigError for gamma outside (0, 1) or fewer than two draws.
    """
    if not 0 < gamma < 1 or draws < 2:
        raise ConfigError(f"POWER needs gamma in (0, 1) and draws of at least 2, got {gamma} and {draws}")
    drawn_NS = rewards(np.random.default_rng(seed), (draws, mdp.states))
    parts = [_optimal_values(mdp, drawn_NS[start : start + AT_ONCE], gamma) for start in range(0, draws, AT_ONCE)]
    return Power((1 - gamma) / gamma * (np.concatenate(parts) - drawn_NS), gamma)


def power_seeking(found: Power, mdp: TabularMDP, policy: Floats, horizon: int) -> PowerSeeking:
    """How a policy, (S, A) or (T, S, A), compares with acting by lot over `horizon` steps from the same starts.

    An episode that has ended stays in its last state.
    """
    mdp = mdp.absorbing()
    by_lot_SA = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
    means_N = []
    for one in (policy, by_lot_SA):
        visits_S = occupancy(mdp, one, 1.0, horizon).sum(axis=1)
        means_N.append(found.draws_NS @ (visits_S / visits_S.sum()))
    gain_N = means_N[0] - means_N[1]
    return PowerSeeking(
        policy=float(means_N[0].mean()),
        by_lot=float(means_N[1].mean()),
        error=float(gain_N.std(ddof=1) / np.sqrt(len(gain_N))),
    )


def _optimal_values(mdp: TabularMDP, rewards_NS: Floats, gamma: float) -> Floats:
    """(N, S) by value iteration on all at once; each step brings the error down by gamma."""
    largest = max(float(np.abs(rewards_NS).max()), np.finfo(float).tiny) / (1 - gamma)
    values_NS = rewards_NS / (1 - gamma)
    rows = mdp.absorbing().rows
    while True:
        next_SN = (rows @ values_NS.T).reshape(mdp.states, -1, len(rewards_NS)).max(axis=1)
        better_NS = rewards_NS + gamma * next_SN.T
        moved, values_NS = float(np.abs(better_NS - values_NS).max()), better_NS
        if moved * gamma <= SETTLED * largest * (1 - gamma):
            return values_NS
