"""Optimal play against all pairs of plans, and what it is worth to both."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import ConfigError, DataError
from raysafe.irl.cooperative.game import CooperativeGame, solve
from tests.examples import examples
from tests.irl.cooperative.problems import random_game


def best_of_all_plans(game: CooperativeGame) -> float:
    """For two steps: every action of the robot with every rule of the human, then in each history every one again."""
    parameters, states, humans, robots = game.rewards_KSHR.shape
    rules = list(itertools.product(range(humans), repeat=parameters))

    def earned(state: int, rule: tuple[int, ...], robot: int, weights: list[float]) -> float:
        return sum(w * game.rewards_KSHR[k, state, rule[k], robot] for k, w in enumerate(weights))

    def last(state: int, weights: list[float]) -> float:
        return max(earned(state, rule, robot, weights) for rule in rules for robot in range(robots))

    def first(state: int, rule: tuple[int, ...], robot: int) -> float:
        found = earned(state, rule, robot, list(game.prior_K))
        for human in range(humans):
            weights = [p * (rule[k] == human) for k, p in enumerate(game.prior_K)]
            chances_S = game.transitions_SHRS[state, human, robot]
            found += game.gamma * sum(chances_S[after] * last(after, weights) for after in range(states))
        return found

    best = [max(first(state, rule, r) for rule in rules for r in range(robots)) for state in range(states)]
    return float(game.initial_S @ best)


@settings(max_examples=examples(6))
@given(st.integers(0, 1000))
def test_play_is_the_best_of_all_pairs_of_plans(seed: int) -> None:
    game = random_game(seed)
    assert solve(game).value == pytest.approx(best_of_all_plans(game), abs=1e-9)


@settings(max_examples=examples(10))
@given(st.integers(0, 1000), st.integers(1, 4))
def test_its_value_is_what_following_it_earns(seed: int, horizon: int) -> None:
    play = solve(random_game(seed, horizon=horizon, humans=3))
    assert play.value == pytest.approx(play.game.prior_K @ play.returns_K(), abs=1e-9)


def test_a_human_signals_at_a_cost_what_the_robot_must_know() -> None:
    """One state; the robot's action earns 1 if it is the parameter, from the second step on worth it; signalling by
    the human's action 1 costs 0.1. Alone a human would never take it."""
    rewards_KSHR = np.zeros((2, 1, 2, 2))
    for parameter in range(2):
        rewards_KSHR[parameter, 0, :, parameter] = 1.0
    rewards_KSHR[:, :, 1] -= 0.1
    game = CooperativeGame(np.ones((1, 2, 2, 1)), rewards_KSHR, np.full(2, 0.5), np.ones(1), 1.0, 3)
    play = solve(game)
    # half of the first step's reward, all of the two others', and half of the signal's cost
    assert play.value == pytest.approx(0.5 + 2 - 0.05)
    assert {play.human(0, 3, 0, 0), play.human(0, 3, 0, 1)} == {0, 1}


def test_parameters_that_the_robot_has_ruled_out_have_no_action() -> None:
    with pytest.raises(DataError, match="parameter 0 is not in the set 2"):
        solve(random_game(0)).human(0, 2, 0, 0)


def test_what_can_not_be_solved_is_refused() -> None:
    with pytest.raises(ConfigError, match="11 parameters can't be solved exactly"):
        random_game(0, parameters=11)
    with pytest.raises(ConfigError, match="horizon must be 1 or more"):
        random_game(0, horizon=0)
    game = random_game(0)
    with pytest.raises(DataError, match="prior_K must be probabilities"):
        CooperativeGame(game.transitions_SHRS, game.rewards_KSHR, np.ones(3), game.initial_S, 0.9, 2)
