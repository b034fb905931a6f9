"""DQN's memory: steps as rows of arrays, so that a hundred minibatches are drawn by one selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS = ("obs", "next_obs", "actions", "rewards", "terminated", "n_step")


class Memory:
    """A ring of the latest `capacity` steps; with n-step rewards, each row spans up to n steps of its episode."""

    def __init__(self, capacity: int, *, n_step: int, gamma: float) -> None:
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.rows: dict[str, NDArray[Any]] = {}
        self.size, self.next = 0, 0

    def add(self, obs_T1D: NDArray[Any], actions_T: NDArray[Any], rewards_T: NDArray[Any], *, terminated: bool) -> None:
        """Consecutive steps of one episode. At a chunk's end rows span fewer steps: the rest isn't known yet."""
        steps = len(actions_T)
        spans_T = np.minimum(self.n_step, steps - np.arange(steps))
        sums_T = np.zeros(steps, dtype=np.float32)
        for ahead in range(min(self.n_step, steps)):
            sums_T[: steps - ahead] += self.gamma**ahead * rewards_T[ahead:]
        ends_T = np.arange(steps) + spans_T
        found = {
            "obs": obs_T1D[:-1],
            "next_obs": obs_T1D[ends_T],
            "actions": actions_T,
            "rewards": sums_T,
            "terminated": (ends_T == steps) & terminated,
            "n_step": spans_T.astype(np.float32),
        }
        if not self.rows:
            self.rows = {name: np.zeros((self.capacity, *v.shape[1:]), dtype=v.dtype) for name, v in found.items()}
        places = (self.next + np.arange(steps)) % self.capacity
        for name, values in found.items():
            self.rows[name][places] = values
        self.next = (self.next + steps) % self.capacity
        self.size = min(self.capacity, self.size + steps)

    def draw(self, count: int, random: np.random.Generator) -> dict[str, NDArray[Any]]:
        """`count` rows, each drawn alone."""
        places = random.integers(0, self.size, count)
        return {name: values[places] for name, values in self.rows.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """The rows in use, the oldest first."""
        order = (self.next - self.size + np.arange(self.size)) % self.capacity
        return {name: values[order] for name, values in self.rows.items()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        self.rows, self.size = {}, len(next(iter(state.values()))) if state else 0
        for name, values in state.items():
            self.rows[name] = np.zeros((self.capacity, *values.shape[1:]), dtype=values.dtype)
            self.rows[name][: self.size] = values
        self.next = self.size % self.capacity
