"""Tabular Q-learning (Watkins & Dayan 1992), SARSA and expected SARSA on a problem's states: the exact reference.

Many copies of the problem are stepped at once; where several did the same in the same state, the value moves towards
the mean of their targets by as much as it would have in as many updates. An episode that was cut off isn't an end: the
value of the state that it came to counts.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysafe.config import Config
from raysafe.errors import DataError
from raysafe.rl.envs.chance import key_of, uniforms
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.table import table
from raysafe.rl.envs.vector import VectorGridworldEnv
from raysafe.rl.mdp import Floats
from raysafe.rl.planning import greedy


class QLearningSettings(Config):
    """How a table of values is learned."""

    update: Literal["q-learning", "sarsa", "expected-sarsa"] = Field(
        default="q-learning",
        description="What follows is valued by the best action (off-policy), by the one that is taken, or by the mean "
        "over what would be taken.",
    )
    rows: Literal["state", "view"] = Field(
        default="state", description="What a row of the table stands for: a state, or all that look the same."
    )
    gamma: float = Field(default=0.99, ge=0, lt=1, description="Discount.")
    copies: int = Field(default=32, ge=1, le=4096, description="Environments that are stepped at once.")
    learning_rate: float = Field(
        default=0.5, gt=0, le=1, description="Share of the way to a target, at the first visit."
    )
    decay: float = Field(
        default=0.0, ge=0, le=1, description="The rate falls by visits to this power; above 0.5 values converge."
    )
    epsilon: float = Field(default=1.0, ge=0, le=1, description="Share of random actions at the start.")
    last_epsilon: float = Field(default=0.05, ge=0, le=1, description="Share of random actions at the end.")
    exploring: float = Field(
        default=0.5, gt=0, le=1, description="Part of the training in which epsilon falls to its last value."
    )
    initial: float = Field(default=0.0, allow_inf_nan=False, description="First value of all actions; high explores.")


class QLearner:
    """Learns `steps` steps of a problem, in pieces of any size; q_RA: values by row and action.

    curve: (steps so far, mean return of the episodes that ended since the row before, number of them).
    """

    def __init__(
        self,
        problem: Problem,
        settings: QLearningSettings | None = None,
        *,
        steps: int = 200_000,
        seed: int = 0,
        record: str | None = None,
    ) -> None:
        self.problem, self.settings, self.steps = problem, settings or QLearningSettings(), steps
        self._table = table(problem)
        self.env = VectorGridworldEnv(problem, self.settings.copies, observation="index", record=record)
        self._row_S = np.arange(len(self._table.states)) if self.settings.rows == "state" else self._table.view_S
        shape = (int(self._row_S.max()) + 1, problem.actions)
        self.q_RA = np.full(shape, self.settings.initial)
        self.visits_RA = np.zeros(shape, dtype=np.int64)
        self.curve: list[tuple[int, float, int]] = []
        self.done = 0
        self._earned_N, self._ended = np.zeros(self.settings.copies), [0.0, 0.0]
        key = key_of(np.random.default_rng([seed, 1]))
        self._keys_N = np.array([key + copy for copy in range(self.settings.copies)], dtype=np.uint64)
        self._draw = 0
        self.env.reset(seed=seed)
        self._actions_N = self._choose(self._greedy_R(), self.env.state_N)

    @property
    def policy_SA(self) -> Floats:
        """The best actions by the values so far, for each state."""
        return greedy(self.q_RA)[self._row_S]

    @property
    def q_SA(self) -> Floats:
        return self.q_RA[self._row_S]

    def epsilon(self) -> float:
        settings = self.settings
        gone = min(1.0, self.done / (settings.exploring * self.steps))
        return settings.epsilon + gone * (settings.last_epsilon - settings.epsilon)

    def learn(self, steps: int | None = None) -> None:
        """About so many more steps, or all that are left; a row is added to the curve."""
        until = self.steps if steps is None else min(self.steps, self.done + steps)
        while self.done < until:
            self._step()
        self._ended, (total, count) = [0.0, 0.0], self._ended
        self.curve.append((self.done, total / count if count else float("nan"), int(count)))

    def _step(self) -> None:
        state_N, actions_N, fresh_N = self.env.state_N, self._actions_N, self.env.over_N
        _, rewards_N, terminated_N, truncated_N, _ = self.env.step(actions_N)
        best_R = self._greedy_R()
        self._actions_N = self._choose(best_R, self.env.state_N)
        follows_N = self._follows(self._row_S[self.env.state_N], best_R)
        targets_N = rewards_N + np.where(terminated_N, 0.0, self.settings.gamma * follows_N)
        self._update((self._row_S[state_N] * self.problem.actions + actions_N)[~fresh_N], targets_N[~fresh_N])
        self.done += int(np.count_nonzero(~fresh_N))
        self._earned_N = np.where(fresh_N, 0.0, self._earned_N + rewards_N)
        over_N = terminated_N | truncated_N
        if over_N.any():
            self._ended[0] += float(self._earned_N[over_N].sum())
            self._ended[1] += int(np.count_nonzero(over_N))

    def _follows(self, row_N: NDArray[np.int64], best_R: NDArray[np.int64]) -> Floats:
        """The value of what comes next, by the rule of the update."""
        if self.settings.update == "sarsa":
            return self.q_RA[row_N, self._actions_N]
        best_N = self.q_RA[row_N, best_R[row_N]]
        if self.settings.update == "q-learning":
            return best_N
        random_N = self._random(self.env.state_N)
        return (1 - random_N) * best_N + random_N * self.q_RA[row_N].mean(axis=1)

    def _update(self, entries: NDArray[np.int64], targets: Floats) -> None:
        """Move the values of these entries (row * actions + action) towards their targets."""
        if not len(entries):
            return
        q, visits = self.q_RA.reshape(-1), self.visits_RA.reshape(-1)
        counts = np.bincount(entries, minlength=len(q))
        touched = np.flatnonzero(counts)
        means = np.bincount(entries, weights=targets, minlength=len(q))[touched] / counts[touched]
        rates = self.settings.learning_rate / (1.0 + visits[touched]) ** self.settings.decay
        q[touched] += (1 - (1 - rates) ** counts[touched]) * (means - q[touched])
        visits[touched] += counts[touched]

    def _greedy_R(self) -> NDArray[np.int64]:
        return self.q_RA.argmax(axis=1)

    def _random(self, state_N: NDArray[np.int64]) -> Floats:
        """Share of random actions in these states: the schedule's, or the state's own where that is more."""
        return np.maximum(self.epsilon(), self._table.exploration_S[state_N])

    def _choose(self, best_R: NDArray[np.int64], state_N: NDArray[np.int64]) -> NDArray[np.int64]:
        draws_N = np.full(len(state_N), self._draw, dtype=np.uint64)
        self._draw += 2
        explores_N = uniforms(self._keys_N, draws_N) < self._random(state_N)
        any_N = (uniforms(self._keys_N, draws_N + np.uint64(1)) * self.problem.actions).astype(np.int64)
        return np.where(explores_N, any_N, best_R[self._row_S[state_N]])

    def state(self) -> dict[str, NDArray[Any]]:
        """All that a learner of the same problem, settings and steps needs to go on as this one would."""
        return {
            "q": self.q_RA.copy(),
            "visits": self.visits_RA.copy(),
            "curve": np.array(self.curve, dtype=np.float64).reshape(-1, 3),
            "counters": np.array([self.done, self._draw], dtype=np.int64),
            "keys": self._keys_N.copy(),
            "actions": self._actions_N.copy(),
            "earned": self._earned_N.copy(),
            "ended": np.array(self._ended),
            **{f"env_{name}": value for name, value in self.env.state_dict().items()},
        }

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """The reverse; raises DataError where the table is another."""
        if state["q"].shape != self.q_RA.shape or state["actions"].shape != self._actions_N.shape:
            raise DataError(
                f"the values kept are {state['q'].shape}, these are {self.q_RA.shape}: same problem, copies?"
            )
        self.q_RA, self.visits_RA = np.array(state["q"]), np.array(state["visits"])
        self.curve = [(int(at), float(mean), int(count)) for at, mean, count in state["curve"].tolist()]
        self.done, self._draw = (int(number) for number in state["counters"].tolist())
        self._keys_N, self._actions_N = np.array(state["keys"]), np.array(state["actions"])
        self._earned_N, self._ended = np.array(state["earned"]), state["ended"].tolist()
        self.env.load_state_dict({name[4:]: kept for name, kept in state.items() if name.startswith("env_")})
