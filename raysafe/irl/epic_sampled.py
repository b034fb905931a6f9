"""EPIC and DARD from samples, for rewards that are functions of continuous states and actions.

Expectations are means over the samples given; the same samples serve both rewards and each of their terms, so that
potential shaping cancels to rounding however few there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysafe.errors import DataError
from raysafe.irl.epic import _apart, _centred
from raysafe.rl.mdp import Floats

Values = NDArray[Any]
RewardFunction = Callable[[Values, Values, Values], Floats]
"""(N, ...) states, actions and next states to (N,) rewards."""
Dynamics = Callable[[Values, Values], Values]
"""(N, ...) states and actions to next states, which may be drawn."""
BATCH = 65536
"""Transitions that a reward is asked about at once."""


@dataclass(frozen=True, eq=False)
class Transitions:
    """What a distance covers: (N, ...) each."""

    states: Values
    actions: Values
    next_states: Values

    def __post_init__(self) -> None:
        sizes = {len(self.states), len(self.actions), len(self.next_states)}
        if len(sizes) != 1 or sizes == {0}:
            raise DataError(f"states, actions and next_states must be equally many and some, got {sorted(sizes)}")


def epic_sampled(
    first: RewardFunction,
    second: RewardFunction,
    gamma: float,
    coverage: Transitions,
    states_M: Values,
    actions_M: Values,
) -> float:
    """The EPIC distance over `coverage`.

    states_M, actions_M: samples of the distributions of states (and next states) and of actions, paired at random.
    """
    if len(states_M) != len(actions_M) or not len(states_M):
        raise DataError(f"states_M and actions_M must be equally many, got {len(states_M)} and {len(actions_M)}")
    made, raw = [], []
    for reward in (first, second):
        own_N = _ask(reward, coverage.states, coverage.actions, coverage.next_states)
        means = [
            _means(reward, states, actions_M, lambda _, actions: _cycled(states_M, len(actions)))
            for states in (coverage.states, coverage.next_states, states_M)
        ]
        made.append(own_N + gamma * means[1] - means[0] - gamma * means[2].mean())
        raw.append(own_N)
    return _distance(made, raw)


def dard_sampled(
    first: RewardFunction,
    second: RewardFunction,
    gamma: float,
    coverage: Transitions,
    actions_M: Values,
    dynamics: Dynamics,
) -> float:
    """The DARD distance over `coverage`; actions_M: samples of the distribution of actions."""
    if not len(actions_M):
        raise DataError("actions_M is empty: DARD needs samples of actions")
    number, each = len(coverage.states), len(actions_M)
    changes: list[list[Floats]] = [[], []]
    step = max(1, BATCH // each)
    for begin in range(0, number, step):
        states, next_states = coverage.states[begin : begin + step], coverage.next_states[begin : begin + step]
        actions = _cycled(actions_M, len(states) * each)
        states, next_states = np.repeat(states, each, axis=0), np.repeat(next_states, each, axis=0)
        from_states, from_next = dynamics(states, actions), dynamics(next_states, actions)
        for reward, found in zip((first, second), changes, strict=True):
            terms = (
                gamma * _ask(reward, next_states, actions, from_next)
                - _ask(reward, states, actions, from_states)
                - gamma * _ask(reward, from_states, actions, from_next)
            )
            found.append(terms.reshape(-1, each).mean(axis=1))
    raw = [_ask(reward, coverage.states, coverage.actions, coverage.next_states) for reward in (first, second)]
    return _distance([own + np.concatenate(change) for own, change in zip(raw, changes, strict=True)], raw)


def _means(reward: RewardFunction, states: Values, actions_M: Values, next_of: Dynamics) -> Floats:
    """(N,): each state's mean reward over actions_M and the next states paired with them."""
    each, found = len(actions_M), []
    step = max(1, BATCH // each)
    for begin in range(0, len(states), step):
        asked = np.repeat(states[begin : begin + step], each, axis=0)
        actions = _cycled(actions_M, len(asked))
        found.append(_ask(reward, asked, actions, next_of(asked, actions)).reshape(-1, each).mean(axis=1))
    return np.concatenate(found)


def _cycled(values_M: Values, number: int) -> Values:
    return np.tile(values_M, (number // len(values_M),) + (1,) * (values_M.ndim - 1))


def _ask(reward: RewardFunction, states: Values, actions: Values, next_states: Values) -> Floats:
    found_N = np.asarray(reward(states, actions, next_states), dtype=np.float64)
    if found_N.shape != (len(states),) or not np.isfinite(found_N).all():
        raise DataError(f"a reward must give {len(states)} finite numbers for as many transitions, got {found_N.shape}")
    return found_N


def _distance(made: list[Floats], raw: list[Floats]) -> float:
    weights_N = np.full(len(made[0]), 1 / len(made[0]))
    return _apart(_centred(made[0], weights_N), _centred(made[1], weights_N), weights_N, *raw)
