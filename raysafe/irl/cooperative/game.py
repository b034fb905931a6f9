"""Cooperative inverse reinforcement learning (Hadfield-Menell et al. 2016), solved exactly for small problems.

Human and robot act at the same time and earn the same reward, whose parameter only the human knows. Optimal play is
that of one coordinator who tells the robot its action and the human a rule from parameters to actions (their theorem
1); rules being deterministic, what the robot believes is the prior within a set of parameters, and beliefs are sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysafe.errors import ConfigError, DataError
from raysafe.rl.mdp import Floats

MOST_PARAMETERS = 10
"""Sets of parameters and their splits in two are 3^10 then."""
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CooperativeGame:
    """K parameters, S states, H human and R robot actions, T steps. Raises DataError where shapes don't agree."""

    transitions_SHRS: Floats
    rewards_KSHR: Floats
    prior_K: Floats
    initial_S: Floats
    gamma: float
    horizon: int

    def __post_init__(self) -> None:
        parameters, states, humans, robots = self.rewards_KSHR.shape
        if self.transitions_SHRS.shape != (states, humans, robots, states):
            raise DataError(
                f"transitions_SHRS must be {(states, humans, robots, states)} as the rewards have it, got "
                f"{self.transitions_SHRS.shape}"
            )
        for name, rows, size in (
            ("transitions_SHRS", self.transitions_SHRS, states),
            ("prior_K", self.prior_K, parameters),
            ("initial_S", self.initial_S, states),
        ):
            if rows.shape[-1] != size or rows.min() < 0 or np.abs(rows.sum(axis=-1) - 1).max() > 1e-8:
                raise DataError(f"{name} must be probabilities of {size} that add up to 1, got shape {rows.shape}")
        if parameters > MOST_PARAMETERS:
            raise ConfigError(f"{parameters} parameters can't be solved exactly, {MOST_PARAMETERS} at most: take fewer")
        if self.horizon < 1 or not 0 <= self.gamma <= 1:
            raise ConfigError(f"horizon must be 1 or more and gamma in [0, 1], got {self.horizon} and {self.gamma}")


@dataclass(frozen=True, eq=False)
class Play:
    """Optimal play. Sets of parameters are numbers whose bit k says that parameter k is in it; n = 2^K of them."""

    game: CooperativeGame
    values_TnS: Floats
    """Expected discounted return to come, times the prior probability of the set."""
    robot_TnS: Ints
    """The robot's action."""
    told_THnS: Ints
    """The parameters, a part of the set, for which the human takes action h."""

    @property
    def value(self) -> float:
        """Expected return before the parameter is drawn."""
        return float(self.game.initial_S @ self.values_TnS[0, -1])

    def human(self, time: int, believed: int, state: int, parameter: int) -> int:
        """The human's action; raises DataError where the robot believes that the parameter can't be."""
        taken = np.flatnonzero(self.told_THnS[time, :, believed, state] >> parameter & 1)
        if not taken.size:
            raise DataError(f"parameter {parameter} is not in the set {believed} that the robot believes in")
        return int(taken[0])

    def returns_K(self) -> Floats:
        """The expected return for each parameter."""
        return np.array([self._return(parameter) for parameter in range(len(self.game.prior_K))])

    def _return(self, parameter: int) -> float:
        game, earned = self.game, 0.0
        full = (1 << len(game.prior_K)) - 1
        reached: dict[tuple[int, int], float] = {
            (full, int(state)): float(game.initial_S[state]) for state in np.flatnonzero(game.initial_S)
        }
        for time in range(game.horizon):
            after: dict[tuple[int, int], float] = {}
            for (believed, state), chance in reached.items():
                human = self.human(time, believed, state, parameter)
                robot = int(self.robot_TnS[time, believed, state])
                earned += chance * game.gamma**time * game.rewards_KSHR[parameter, state, human, robot]
                left = int(self.told_THnS[time, human, believed, state])
                next_S = game.transitions_SHRS[state, human, robot]
                for successor in np.flatnonzero(next_S):
                    key = (left, int(successor))
                    after[key] = after.get(key, 0.0) + chance * float(next_S[successor])
            reached = after
        return float(earned)


def solve(game: CooperativeGame) -> Play:
    """Backward induction over states and sets; the best rule of each set by splitting it action by action."""
    parameters, states, humans, _ = game.rewards_KSHR.shape
    sets = 1 << parameters
    member_nK = (np.arange(sets)[:, None] >> np.arange(parameters) & 1) * game.prior_K
    # what is earned at once: (n, S, H, R)
    earned_nSHR = np.tensordot(member_nK, game.rewards_KSHR, axes=1)
    values_TnS = np.zeros((game.horizon, sets, states))
    robot_TnS = np.zeros((game.horizon, sets, states), dtype=np.int64)
    told_THnS = np.zeros((game.horizon, humans, sets, states), dtype=np.int64)
    later_nS = np.zeros((sets, states))
    for time in reversed(range(game.horizon)):
        later_nSHR = np.einsum("shrz,nz->nshr", game.transitions_SHRS, later_nS)
        best_nSR, parts_HnSR = _split(earned_nSHR + game.gamma * later_nSHR)
        robot_nS = best_nSR.argmax(axis=2)
        later_nS = np.take_along_axis(best_nSR, robot_nS[..., None], axis=2)[..., 0]
        values_TnS[time], robot_TnS[time] = later_nS, robot_nS
        # from the last action back, each takes its part of what is left
        left_nS = np.broadcast_to(np.arange(sets)[:, None], (sets, states))
        for human in reversed(range(humans)):
            part_nS = parts_HnSR[human][left_nS, np.arange(states), robot_nS]
            told_THnS[time, human] = part_nS
            left_nS = left_nS & ~part_nS
    return Play(game, values_TnS, robot_TnS, told_THnS)


def _split(worth_nSHR: Floats) -> tuple[Floats, Ints]:
    """For each set the best way to split it over the human's actions: (its worth (n, S, R), the part of the set that
    takes action h where only actions up to h are left (H, n, S, R))."""
    sets, states, humans, robots = worth_nSHR.shape
    best_nSR = worth_nSHR[:, :, 0].copy()
    parts_HnSR = np.zeros((humans, sets, states, robots), dtype=np.int64)
    parts_HnSR[0] = np.arange(sets)[:, None, None]
    for human in range(1, humans):
        before_nSR, worth_nSR = best_nSR, worth_nSHR[:, :, human]
        best_nSR = np.empty_like(before_nSR)
        for whole in range(sets):
            chosen = np.array(_subsets(whole))
            worth_CSR = worth_nSR[chosen] + before_nSR[whole & ~chosen]
            first_SR = worth_CSR.argmax(axis=0)
            best_nSR[whole] = np.take_along_axis(worth_CSR, first_SR[None], axis=0)[0]
            parts_HnSR[human, whole] = chosen[first_SR]
    return best_nSR, parts_HnSR


def _subsets(whole: int) -> list[int]:
    """All, the empty one first."""
    found, part = [0], whole
    while part:
        found.append(part)
        part = (part - 1) & whole
    return found
