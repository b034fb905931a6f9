"""A problem as arrays: its states enumerated from the starts, their outcomes, and the MDP for exact planning."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from raysafe.errors import DataError
from raysafe.rl.envs.problem import Problem, State
from raysafe.rl.mdp import Flags, Floats, TabularMDP

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """K outcomes at most follow an action; those that don't exist have probability 0 and lead back to the state."""

    problem: Problem
    states: list[State]
    initial_S: Floats
    terminal_S: Flags
    probability_SAK: Floats
    next_SAK: Ints
    reward_SAK: Floats

    @cached_property
    def index(self) -> dict[State, int]:
        return {state: number for number, state in enumerate(self.states)}

    @cached_property
    def views(self) -> list[State]:
        """What the states look like, each once, in the order in which it comes up."""
        return list(dict.fromkeys(self.problem.view(state) for state in self.states))

    @cached_property
    def view_S(self) -> Ints:
        number = {view: place for place, view in enumerate(self.views)}
        return np.array([number[self.problem.view(state)] for state in self.states])

    @cached_property
    def exploration_S(self) -> Floats:
        return np.array([self.problem.exploration(state) for state in self.states])

    @cached_property
    def rewards_SA(self) -> Floats:
        return (self.probability_SAK * self.reward_SAK).sum(axis=-1)

    @cached_property
    def mdp(self) -> TabularMDP:
        states, actions, outcomes = self.next_SAK.shape
        rows = sparse.csr_array(
            (
                self.probability_SAK.ravel(),
                (np.repeat(np.arange(states * actions), outcomes), self.next_SAK.ravel()),
            ),
            shape=(states * actions, states),
        )
        rows.sum_duplicates()
        rows.eliminate_zeros()
        return TabularMDP(rows, self.initial_S, self.terminal_S)


@lru_cache(maxsize=64)
def table(problem: Problem) -> Table:
    """The reachable states in breadth-first order from the starts, and what follows in each.

    Raises DataError where the rules contradict themselves: probabilities that don't add up to 1, a state that both ends
    an episode and doesn't.
    """
    starts = problem.starts()
    _check_sum([chance for chance, _ in starts], f"the starts of {type(problem).__name__}")
    states = list(dict.fromkeys(state for _, state in starts))
    index = {state: number for number, state in enumerate(states)}
    ends: set[int] = set()
    found: dict[int, list[list[tuple[float, int, float]]]] = {}
    waiting = deque(range(len(states)))
    while waiting:
        number = waiting.popleft()
        rows = []
        for action in range(problem.actions):
            outcomes = problem.transitions(states[number], action)
            _check_sum([outcome.probability for outcome in outcomes], f"{states[number]}, action {action}")
            row = []
            for chance, state, reward, done in outcomes:
                if state not in index:
                    index[state] = len(states)
                    states.append(state)
                    if done:
                        ends.add(index[state])
                    else:
                        waiting.append(index[state])
                if done != (index[state] in ends):
                    raise DataError(f"state {state} of {type(problem).__name__} must either end an episode or not")
                row.append((chance, index[state], reward))
            rows.append(row)
        found[number] = rows
    return _arrays(problem, states, starts, ends, found)


def tabular(problem: Problem) -> tuple[TabularMDP, Floats, list[State]]:
    """The MDP, its expected rewards (S, A), and the states in their order."""
    made = table(problem)
    return made.mdp, made.rewards_SA, made.states


def _arrays(
    problem: Problem,
    states: list[State],
    starts: list[tuple[float, State]],
    ends: set[int],
    found: dict[int, list[list[tuple[float, int, float]]]],
) -> Table:
    most = max(len(row) for rows in found.values() for row in rows)
    shape = (len(states), problem.actions, most)
    probability_SAK, reward_SAK = np.zeros(shape), np.zeros(shape)
    next_SAK = np.broadcast_to(np.arange(len(states))[:, None, None], shape).copy()
    for state, rows in found.items():
        for action, row in enumerate(rows):
            for place, (chance, to, reward) in enumerate(row):
                probability_SAK[state, action, place] = chance
                next_SAK[state, action, place] = to
                reward_SAK[state, action, place] = reward
    probability_SAK[list(ends), :, 0] = 1.0
    initial_S = np.zeros(len(states))
    for chance, state in starts:
        initial_S[states.index(state)] += chance
    terminal_S = np.zeros(len(states), dtype=bool)
    terminal_S[list(ends)] = True
    return Table(problem, states, initial_S, terminal_S, probability_SAK, next_SAK, reward_SAK)


def _check_sum(chances: list[float], what: str) -> None:
    if min(chances, default=0.0) <= 0 or abs(sum(chances) - 1) > 1e-9:
        raise DataError(f"{what}: probabilities must be positive and add up to 1, got {chances}")
