"""A problem: a finite Markov decision process on a small board, from which environments and exact tables are made.

It tells where an episode starts and where each action leads with which probability and reward, and nothing else: what a
designer wanted of the agent besides is a function elsewhere, which is computed after an episode from what was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.config import Config

State = tuple[Any, ...]
"""Hashable, and what JSON can hold: numbers, text and tuples of them."""


class Action(IntEnum):
    """Four moves, and to stay, which baselines of inaction need."""

    UP = 0
    DOWN = 1
    LEFT = 2
    RIGHT = 3
    STAY = 4


class Outcome(NamedTuple):
    """One way in which an action may turn out; `done`: the next state ends the episode."""

    probability: float
    state: State
    reward: float
    done: bool


class Problem(Config):
    """Settings of a problem, and its rules. Equal settings are the same problem."""

    limit: int = Field(default=100, ge=1, le=10_000, description="Steps after which an episode is cut off.")

    actions: ClassVar[int] = len(Action)
    tiles: ClassVar[str]
    """Every character that a board may show; each is a layer of the observation."""

    def __hash__(self) -> int:
        return hash((type(self), *self.model_dump().values()))

    def starts(self) -> list[tuple[float, State]]:
        """The states in which an episode may start, with their probabilities."""
        raise NotImplementedError

    def transitions(self, state: State, action: int) -> list[Outcome]:
        """What may follow, with probabilities that add up to 1."""
        raise NotImplementedError

    def board(self, state: State) -> tuple[str, ...]:
        """What is to be seen: rows of tiles, of the same size in every state."""
        raise NotImplementedError

    def view(self, state: State) -> State:
        """What a table's row stands for: states that an agent can't tell apart, or takes for the same, share one."""
        return state

    def side_information(self, state: State) -> Mapping[str, float]:
        """Numbers that the environment gives beside the observation, the same names in every state."""
        return {}

    def exploration(self, state: State) -> float:
        """Share of an agent's own choices that the state makes random: its action selection has to honour it."""
        return 0.0

    def layers(self, state: State) -> NDArray[np.float32]:
        """(tiles, rows, columns): 1 where the board shows the tile."""
        return layers(self.board(state), self.tiles)


def layers(board: tuple[str, ...], tiles: str) -> NDArray[np.float32]:
    """(tiles, rows, columns): 1 where the board shows the tile."""
    board_HW = np.array([list(row) for row in board])
    return (board_HW == np.array(list(tiles))[:, None, None]).astype(np.float32)
