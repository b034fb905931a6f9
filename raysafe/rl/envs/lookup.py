"""What an environment looks up at each step, made once from a problem's table."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from raysafe.errors import ConfigError
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.table import Ints, Table, table
from raysafe.rl.mdp import Floats

Observation = Literal["flat", "layers", "index"]


class Lookup:
    """observation: `flat` is the layers as one row, `index` the number of the state's view."""

    def __init__(self, made: Table, observation: Observation) -> None:
        problem = made.problem
        self.limit, self.actions = problem.limit, problem.actions
        self.terminal_S = made.terminal_S
        self.boards = [problem.board(state) for state in made.states]
        self.next_SAK, self.reward_SAK = made.next_SAK, made.reward_SAK
        self.upto_SAK = _upto(made.probability_SAK)
        rows = len(made.states) * problem.actions
        self._upto_RK = self.upto_SAK.reshape(rows, -1)
        self._next_RK = made.next_SAK.reshape(rows, -1)
        self._reward_RK = made.reward_SAK.reshape(rows, -1)
        self.starts = np.flatnonzero(made.initial_S)
        self.upto_starts = _upto(made.initial_S[self.starts])
        known = [problem.side_information(state) for state in made.states]
        self.information = {name: np.array([row[name] for row in known]) for name in known[0]}
        if observation == "index":
            self.observation_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(len(made.views))
            self.observations: NDArray[Any] = made.view_S
        elif observation in ("flat", "layers"):
            layers = np.stack([problem.layers(state) for state in made.states])
            self.observations = layers.reshape(len(layers), -1) if observation == "flat" else layers
            self.observation_space = gymnasium.spaces.Box(0.0, 1.0, self.observations.shape[1:], np.float32)
        else:
            raise ConfigError(f"observation must be 'flat', 'layers' or 'index', got {observation!r}")

    def start(self, chance: float) -> int:
        return int(self.starts[np.searchsorted(self.upto_starts, chance, side="right")])

    def follow(self, state: int, action: int, chance: float) -> tuple[int, float]:
        """The next state and the reward."""
        place = int(np.searchsorted(self.upto_SAK[state, action], chance, side="right"))
        return int(self.next_SAK[state, action, place]), float(self.reward_SAK[state, action, place])

    def start_many(self, chances_N: Floats) -> Ints:
        return self.starts[np.searchsorted(self.upto_starts, chances_N, side="right")]

    def follow_many(self, state_N: Ints, actions_N: Ints, chances_N: Floats) -> tuple[Ints, Floats]:
        """Next states and rewards."""
        rows_N = state_N * self.actions + actions_N
        places_N = (self._upto_RK[rows_N] <= chances_N[:, None]).sum(axis=1)
        return self._next_RK[rows_N, places_N], self._reward_RK[rows_N, places_N]

    def observe(self, state: int) -> Any:
        seen = self.observations[state]
        return seen.copy() if isinstance(seen, np.ndarray) else seen

    def board(self, state: int) -> tuple[str, ...]:
        return self.boards[state]


@lru_cache(maxsize=64)
def lookup(problem: Problem, observation: Observation) -> Lookup:
    return Lookup(table(problem), observation)


def _upto(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative probabilities; from the last outcome that there is on, more than any draw."""
    upto = np.cumsum(probability, axis=-1)
    last = np.cumsum(probability[..., ::-1], axis=-1)[..., ::-1]
    rest = np.concatenate([last[..., 1:], np.zeros_like(last[..., :1])], axis=-1)
    return np.where(rest <= 0, np.inf, upto)
