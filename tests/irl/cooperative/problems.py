"""Small problems of cooperation, drawn by seed."""

from __future__ import annotations

import numpy as np

from raysafe.irl.cooperative.game import CooperativeGame
from raysafe.irl.cooperative.teaching import Apprenticeship
from raysafe.rl.mdp import TabularMDP

MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0), (0, 0))


def random_game(
    seed: int, parameters: int = 3, states: int = 3, humans: int = 2, robots: int = 2, horizon: int = 2
) -> CooperativeGame:
    rng = np.random.default_rng(seed)
    return CooperativeGame(
        rng.dirichlet(np.ones(states), (states, humans, robots)),
        rng.normal(size=(parameters, states, humans, robots)),
        rng.dirichlet(np.ones(parameters)),
        rng.dirichlet(np.ones(states)),
        0.9,
        horizon,
    )


def walks(size: int) -> np.ndarray:
    """(S, 5, S): right, down, left, up, stay on a square grid, for certain."""
    goes_SAS = np.zeros((size * size, len(MOVES), size * size))
    for state in range(size * size):
        for action, move in enumerate(MOVES):
            row, column = np.clip(np.add(divmod(state, size), move), 0, size - 1)
            goes_SAS[state, action, row * size + column] = 1
    return goes_SAS


def apprenticeship(
    seed: int, *, size: int = 4, features: int = 3, parameters: int = 5, steps: int = 5, slips: bool = False
) -> Apprenticeship:
    """A grid with rewards that are normal sums of bumps (as Hadfield-Menell et al. 2016, section 5.1, have them); the
    lesson starts in one cell, the task in any."""
    rng = np.random.default_rng(seed)
    goes_SAS = walks(size)
    if slips:
        goes_SAS = 0.7 * goes_SAS + 0.3 * goes_SAS[:, -1:]
    states = size * size
    centres_F2 = rng.uniform(0, size - 1, (features, 2))
    cells_S2 = np.stack(np.divmod(np.arange(states), size), axis=1)
    bumps_SF = np.exp(-((cells_S2[:, None] - centres_F2) ** 2).sum(axis=2) / 2)
    rewards_KS = rng.normal(size=(parameters, features)) @ bumps_SF.T
    start_S = np.zeros(states)
    start_S[rng.integers(states)] = 1
    return Apprenticeship(
        TabularMDP(goes_SAS, start_S),
        TabularMDP(goes_SAS, np.full(states, 1 / states)),
        np.repeat(rewards_KS[:, :, None], len(MOVES), axis=2),
        np.full(parameters, 1 / parameters),
        gamma=0.9,
        steps=steps,
        beta=5.0,
    )
