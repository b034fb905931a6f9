"""Apprenticeship as cooperative inverse reinforcement learning (Hadfield-Menell et al. 2016, section 4): the human
demonstrates for some steps, then the robot acts alone. All of it exact, over the tree of lessons.

A literal robot takes demonstrations for those of an expert who acts as if alone. The human's best response to it is
pedagogic: it shows what separates parameters. The robot's best response to that human is pragmatic, and so on; each
best response raises the pair's expected return, or leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.special import log_softmax, softmax

from raysafe.errors import ConfigError, DataError
from raysafe.irl.bayes.many import ManyValues
from raysafe.rl.mdp import Floats, TabularMDP

MOST_LEAVES = 100_000
TIE = 1e-9
Demonstrator = Sequence[Floats]
"""For each step t, what the human does in node n for parameter k: (N_t, K, A)."""


@dataclass(frozen=True, eq=False)
class _Level:
    """Nodes after t steps: where the human is, and which (state, action) pairs the robot has seen, in any order."""

    states_N: np.ndarray
    seen_N: list[tuple[int, ...]]
    nodes_E: np.ndarray
    """Edges to the next level: node, action, chance, next node."""
    actions_E: np.ndarray
    chances_E: Floats
    next_E: np.ndarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """Expected discounted returns for each parameter, of the lesson and of the robot's task."""

    lesson_K: Floats
    task_K: Floats
    regret_K: Floats
    """What the robot's task would have earned with the parameter known, less task_K."""


@dataclass(frozen=True, eq=False)
class Apprenticeship:
    """The lesson is the human's MDP, the task the robot's: the same states and actions, rewards (K, S, A) in both."""

    lesson: TabularMDP
    task: TabularMDP
    rewards_KSA: Floats
    prior_K: Floats
    gamma: float
    steps: int
    beta: float
    """Rationality that a literal robot takes an expert to have."""

    def __post_init__(self) -> None:
        """Raises DataError where shapes don't agree, ConfigError for settings out of bounds."""
        size = (self.lesson.states, self.lesson.actions)
        if (self.task.states, self.task.actions) != size or self.rewards_KSA.shape[1:] != size:
            raise DataError(
                f"lesson, task and rewards must have the same states and actions: {size}, "
                f"{(self.task.states, self.task.actions)} and {self.rewards_KSA.shape[1:]}"
            )
        if self.prior_K.shape != self.rewards_KSA.shape[:1] or abs(self.prior_K.sum() - 1) > 1e-8:
            raise DataError(f"prior_K must be {len(self.rewards_KSA)} probabilities that add up to 1")
        if self.steps < 1 or self.beta <= 0:
            raise ConfigError(f"steps must be 1 or more and beta positive, got {self.steps} and {self.beta}")

    @cached_property
    def _q_KSA(self) -> Floats:
        return ManyValues(self.lesson, self.gamma).q(self.rewards_KSA)

    @cached_property
    def _levels(self) -> list[_Level]:
        """Raises ConfigError where the tree is too large."""
        rows = self.lesson.rows
        chances_SAS = (rows.toarray() if isinstance(rows, sparse.csr_array) else rows).reshape(
            self.lesson.states, self.lesson.actions, -1
        )
        starts = np.flatnonzero(self.lesson.initial_S)
        nodes: dict[tuple[int, tuple[int, ...]], int] = {(int(s), ()): number for number, s in enumerate(starts)}
        levels = []
        for _ in range(self.steps):
            after: dict[tuple[int, tuple[int, ...]], int] = {}
            edges: list[tuple[int, int, float, int]] = []
            for (state, seen), node in nodes.items():
                for action in range(self.lesson.actions):
                    if self.lesson.ends_S[state]:
                        edges.append((node, action, 1.0, after.setdefault((state, seen), len(after))))
                        continue
                    shown = tuple(sorted((*seen, state * self.lesson.actions + action)))
                    for successor in np.flatnonzero(chances_SAS[state, action]):
                        child = after.setdefault((int(successor), shown), len(after))
                        edges.append((node, action, float(chances_SAS[state, action, successor]), child))
            if len(after) > MOST_LEAVES:
                raise ConfigError(
                    f"{self.steps} steps give more than {MOST_LEAVES:,} different lessons: set steps lower"
                )
            levels.append(_level(nodes, edges))
            nodes = after
        return [*levels, _level(nodes, [])]

    def expert(self) -> list[Floats]:
        """A human who acts as if alone: any of the actions that are optimal for the parameter."""
        best_KSA = self._q_KSA >= self._q_KSA.max(axis=2, keepdims=True) - TIE
        policy_SKA = np.moveaxis(best_KSA / best_KSA.sum(axis=2, keepdims=True), 0, 1)
        return [policy_SKA[level.states_N] for level in self._levels[:-1]]

    def literal(self) -> Floats:
        """(L, K): what a literal robot believes after each lesson."""
        logps_KX = log_softmax(self.beta * self._q_KSA, axis=2).reshape(len(self.prior_K), -1)
        likelihood_LK = np.array([logps_KX[:, list(seen)].sum(axis=1) for seen in self._levels[-1].seen_N])
        return _normalised(likelihood_LK + self._log_prior_K)

    def pragmatic(self, human: Demonstrator, else_LK: Floats) -> Floats:
        """(L, K): what a robot believes that knows how the human demonstrates; `else_LK` after lessons that such a
        human never gives."""
        reach_LK = self._reach(human)[-1] * self.prior_K
        total_L1 = reach_LK.sum(axis=1, keepdims=True)
        return np.where(total_L1 > 0, reach_LK / np.where(total_L1 > 0, total_L1, 1.0), else_LK)

    def deploy(self, beliefs_LK: Floats) -> Floats:
        """(L, K): what the robot's best response earns in the task for each parameter, after each lesson.

        That is the optimal policy for the mean reward, as nothing more is learned in the task (their theorem 2).
        """
        unique_UK, back_L = np.unique(beliefs_LK.round(12), axis=0, return_inverse=True)
        many = ManyValues(self.task, self.gamma)
        policy_US = many.q(np.tensordot(unique_UK, self.rewards_KSA, axes=1)).argmax(axis=2)
        visits_USA = many.occupancies(policy_US)
        values_UK = visits_USA.reshape(len(visits_USA), -1) @ self.rewards_KSA.reshape(len(self.prior_K), -1).T
        return values_UK[back_L.ravel()]

    def pedagogic(self, values_LK: Floats) -> list[Floats]:
        """The human's exact best response to a robot that earns so much after each lesson: the most of what the lesson
        earns and then the task; any of the actions that are equally good."""
        found, later_NK = [], values_LK
        for time in reversed(range(self.steps)):
            level = self._levels[time]
            worth_NAK = np.zeros((len(level.states_N), self.lesson.actions, len(self.prior_K)))
            np.add.at(worth_NAK, (level.nodes_E, level.actions_E), level.chances_E[:, None] * later_NK[level.next_E])
            worth_NAK += self.gamma**time * np.moveaxis(self._earned_KSA[:, level.states_N], 0, 2)
            later_NK = worth_NAK.max(axis=1)
            best_NAK = worth_NAK >= later_NK[:, None] - TIE
            found.append(np.moveaxis(best_NAK / best_NAK.sum(axis=1, keepdims=True), 1, 2))
        return found[::-1]

    def outcome(self, human: Demonstrator, values_LK: Floats) -> Outcome:
        """Of a human and a robot that earns so much after each lesson."""
        reach = self._reach(human)
        lesson_K = np.zeros(len(self.prior_K))
        for time, level in enumerate(self._levels[:-1]):
            earned_NKA = np.moveaxis(self._earned_KSA[:, level.states_N], 0, 1)
            lesson_K += self.gamma**time * (reach[time] * (human[time] * earned_NKA).sum(axis=2)).sum(axis=0)
        task_K = (reach[-1] * values_LK).sum(axis=0)
        return Outcome(lesson_K, task_K, self._known_K - task_K)

    @property
    def _log_prior_K(self) -> Floats:
        with np.errstate(divide="ignore"):
            return np.log(self.prior_K)

    @cached_property
    def _earned_KSA(self) -> Floats:
        return np.where(self.lesson.ends_S[:, None], 0.0, self.rewards_KSA)

    @cached_property
    def _known_K(self) -> Floats:
        return np.diag(self.deploy(np.eye(len(self.prior_K))))

    def _reach(self, human: Demonstrator) -> list[Floats]:
        """For each level (N_t, K): the chance of each node for each parameter."""
        first = self._levels[0]
        reach = [np.repeat(self.lesson.initial_S[first.states_N, None], len(self.prior_K), axis=1)]
        for time, level in enumerate(self._levels[:-1]):
            after_NK = np.zeros((len(self._levels[time + 1].states_N), len(self.prior_K)))
            taken_EK = human[time][level.nodes_E, :, level.actions_E]
            np.add.at(after_NK, level.next_E, reach[-1][level.nodes_E] * taken_EK * level.chances_E[:, None])
            reach.append(after_NK)
        return reach


def _level(nodes: dict[tuple[int, tuple[int, ...]], int], edges: list[tuple[int, int, float, int]]) -> _Level:
    node_E, action_E, chance_E, next_E = (
        (np.array(column) for column in zip(*edges, strict=True)) if edges else (np.empty(0, int),) * 4
    )
    return _Level(
        np.array([state for state, _ in nodes]), [seen for _, seen in nodes], node_E, action_E, chance_E, next_E
    )


def _normalised(logs_LK: Floats) -> Floats:
    return softmax(logs_LK, axis=1)
