"""Exact solutions of two-player zero-sum Markov games (Shapley 1953), by policy iteration (Hoffman & Karp 1966).

Each round solves the matrix games of all states at once, as one sparse linear programme, for the second player; the
first player's best answer to that is an MDP, whose values are the next round's. They fall to the game's values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysafe.errors import ConfigError, DataError
from raysafe.rl.envs.game import Game, game_table
from raysafe.rl.matrix_game import guarantees
from raysafe.rl.mdp import Floats
from raysafe.rl.planning import optimal

ROUNDS = 200


@dataclass(frozen=True)
class Equilibrium:
    """value: the first player's, in the mean over the starts; policies (S, actions) that guarantee it."""

    value: float
    values_S: Floats
    first_SA: Floats
    second_SB: Floats


def minimax(game: Game, gamma: float, tolerance: float = 1e-9) -> Equilibrium:
    """The game without its limit of steps, discounted. Raises ConfigError for gamma outside [0, 1)."""
    if not 0 <= gamma < 1:
        raise ConfigError(f"gamma must be in [0, 1), got {gamma}")
    made = game_table(game)
    values_S = np.zeros(len(made.states))
    for _ in range(ROUNDS):
        payoff_SAB = made.rewards_SAB + gamma * made.transitions_SABS @ values_S
        payoff_SAB[made.terminal_S] = 0.0
        second_SB = guarantees(-payoff_SAB.transpose(0, 2, 1))[1]
        before_S, values_S = values_S, optimal(*made.against(second_SB, 0), gamma).values
        if np.abs(values_S - before_S).max() < tolerance:
            first_SA = guarantees(payoff_SAB)[1]
            return Equilibrium(float(made.initial_S @ values_S), values_S, first_SA, second_SB)
    raise DataError(f"the game's values still moved after {ROUNDS} rounds: raise tolerance, {tolerance:g}")


def exploitability(game: Game, gamma: float, first_SA: Floats, second_SB: Floats) -> float:
    """What best answers to both policies gain together, halved: 0 in an equilibrium, and nowhere else."""
    made = game_table(game)
    answers = [optimal(*made.against(second_SB, 0), gamma), optimal(*made.against(first_SA, 1), gamma)]
    return float(made.initial_S @ (answers[0].values + answers[1].values)) / 2
