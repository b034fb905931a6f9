"""A game of two players who move at the same time and play for opposite ends, as rules and as arrays."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.config import Config
from raysafe.rl.envs.problem import Action, Outcome, State, layers
from raysafe.rl.mdp import Flags, Floats, TabularMDP


class Game(Config):
    """Settings of a game, and its rules. Rewards are the first player's; the second's are their negatives.

    A board is drawn as the player sees it who looks: what is its own has the same tiles for both, so that one policy
    can sit at either place.
    """

    limit: int = Field(default=100, ge=1, le=10_000, description="Steps after which a game is drawn.")

    actions: ClassVar[int] = len(Action)
    tiles: ClassVar[str]

    def __hash__(self) -> int:
        return hash((type(self), *self.model_dump().values()))

    def starts(self) -> list[tuple[float, State]]:
        """The states in which a game may start, with their probabilities."""
        raise NotImplementedError

    def transitions(self, state: State, actions: tuple[int, int]) -> list[Outcome]:
        """What may follow when both have moved; each action as its player means it."""
        raise NotImplementedError

    def board(self, state: State, player: int) -> tuple[str, ...]:
        raise NotImplementedError

    def layers(self, state: State, player: int) -> NDArray[np.float32]:
        """(tiles, rows, columns): 1 where the player's board shows the tile."""
        return layers(self.board(state, player), self.tiles)


@dataclass(frozen=True, eq=False)
class GameTable:
    """Arrays over the reachable states; A the first player's actions, B the second's. Terminal states have no rows."""

    states: list[State]
    initial_S: Floats
    terminal_S: Flags
    transitions_SABS: Floats
    rewards_SAB: Floats

    def against(self, policy: Floats, player: int) -> tuple[TabularMDP, Floats]:
        """What is left to one player where the other keeps to a policy (S, actions): an MDP and its rewards (S, A)."""
        mixed, sign = ("sabt,sb->sat", 1.0) if player == 0 else ("sabt,sa->sbt", -1.0)
        transitions_SAS = np.einsum(mixed, self.transitions_SABS, policy)
        rewards_SA = sign * np.einsum(mixed.replace("t", ""), self.rewards_SAB, policy)
        return TabularMDP(transitions_SAS, self.initial_S, self.terminal_S), rewards_SA


def game_table(game: Game) -> GameTable:
    """States in breadth-first order from the starts."""
    return _table(game)


@lru_cache(maxsize=8)
def _table(game: Game) -> GameTable:
    states = list(dict.fromkeys(state for _, state in game.starts()))
    index = {state: number for number, state in enumerate(states)}
    found: list[tuple[int, int, int, float, int, float]] = []
    ends: set[int] = set()
    waiting = deque(states)
    while waiting:
        state = waiting.popleft()
        for first in range(game.actions):
            for second in range(game.actions):
                for chance, following, reward, done in game.transitions(state, (first, second)):
                    if following not in index:
                        index[following] = len(states)
                        states.append(following)
                        if done:
                            ends.add(index[following])
                        else:
                            waiting.append(following)
                    found.append((index[state], first, second, chance, index[following], reward))
    shape = (len(states), game.actions, game.actions)
    transitions_SABS, rewards_SAB = np.zeros((*shape, len(states))), np.zeros(shape)
    for state, first, second, chance, following, reward in found:
        transitions_SABS[state, first, second, following] += chance
        rewards_SAB[state, first, second] += chance * reward
    for state in ends:
        transitions_SABS[state, :, :, state] = 1.0
    initial_S, terminal_S = np.zeros(len(states)), np.zeros(len(states), dtype=bool)
    for chance, state in game.starts():
        initial_S[index[state]] += chance
    terminal_S[list(ends)] = True
    return GameTable(states, initial_S, terminal_S, transitions_SABS, rewards_SAB)
