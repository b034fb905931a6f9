"""The penalty around an environment: what is charged where it stands, and what is refused."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import raysafe.rl.envs  # noqa: F401
from raysafe.errors import ConfigError, DataError
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.table import table
from raysafe.rl.extension import TRUE_REWARD
from raysafe.rl.reward_wrapper import ADDED_REWARD
from raysafe.rl.side_effect_penalty import (
    SideEffects,
    SideEffectsSettings,
    learned_penalty,
    penalised,
    table_of_penalties,
)

UP, DOWN, LEFT, RIGHT, STAY = range(5)


def q_values(observation: np.ndarray) -> np.ndarray:
    """Two auxiliary rewards: going right is worth 1 more than staying to the one, 3 less to the other."""
    return np.array([[0, 0, 0, 1, 0], [0, 0, 0, 2, 5]])


def test_the_push_that_loses_the_box_is_charged_and_the_way_round_is_not() -> None:
    env = penalised(gym.make("raysafe/SideEffects-v0"), SideEffectsSettings(weight=10), seed=0)
    env.reset(seed=0)
    _, reward, _, _, pushed = env.step(DOWN)
    env.reset(seed=0)
    _, _, _, _, aside = env.step(LEFT)
    assert reward == pytest.approx(-1 + pushed[ADDED_REWARD])
    assert (pushed[TRUE_REWARD], aside[TRUE_REWARD]) == (-1.0, -1.0)
    assert pushed[ADDED_REWARD] < 10 * aside[ADDED_REWARD] <= 0


@pytest.mark.parametrize("baseline", ["starting state", "inaction", "stepwise inaction"])
def test_what_is_charged_is_the_tables(baseline: str) -> None:
    settings = SideEffectsSettings.parse({"baseline": baseline, "measure": "attainable utility", "weight": 2})
    problem = problem_named("SideEffects")
    penalty = np.broadcast_to(table_of_penalties(problem, settings, seed=3), (100, len(table(problem).states), 5))
    env = penalised(gym.make("raysafe/SideEffects-v0"), settings, seed=3)
    env.reset(seed=0)
    for time, action in enumerate((LEFT, STAY, DOWN, RIGHT)):
        state = table(problem).index[env.unwrapped.state]  # type: ignore[attr-defined]
        info = env.step(action)[-1]
        assert info[ADDED_REWARD] == pytest.approx(-2 * penalty[time, state, action])


def test_auxiliary_values_of_ones_own_are_attainable_utility() -> None:
    env = gym.make("raysafe/SideEffects-v0")
    own = SideEffectsSettings(measure="attainable utility", auxiliary_q=f"{__name__}:q_values", weight=0.5)
    wrapped = penalised(env, own, seed=0)
    wrapped.reset(seed=0)
    assert wrapped.step(RIGHT)[-1][ADDED_REWARD] == -0.5 * (1 + 3) / 2
    with pytest.raises(DataError, match=r"must return \(K, A\) with A above 7, got \(2, 5\)"):
        learned_penalty(q_values, 4, 0, np.zeros(1), 7)


def test_an_environment_whose_states_are_not_known_needs_auxiliary_values() -> None:
    with pytest.raises(ConfigError, match="or auxiliary_q, got CartPole-v1"):
        SideEffects(SideEffectsSettings(), "CartPole-v1", seed=0)
    with pytest.raises(ConfigError, match="set measure to 'attainable utility'"):
        SideEffectsSettings(auxiliary_q=f"{__name__}:q_values")
