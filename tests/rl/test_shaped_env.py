"""Shaped environments: what an episode was paid, against the closed sum of its potentials, and what it keeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import ConfigError
from raysafe.rl.extension import TRUE_REWARD
from raysafe.rl.reward_wrapper import ADDED_REWARD
from raysafe.rl.shaping_settings import CHANGES_TASK, Kind, Shaping, ShapingSettings, shaped

GAMMA = 0.9


class Walk(gym.Env):
    """A place on a line; an episode ends at 3, or is cut off after 6 steps. Each step earns the place."""

    observation_space = gym.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.place = self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place, self.steps = self.place + int(action) - 1, self.steps + 1
        seen = np.array([self.place], np.float32)
        return seen, float(self.place), self.place == 3, self.steps == 6, {"own": 1}


def of_state(observation: np.ndarray) -> float:
    return 2 + float(observation[0]) ** 2


def of_action(observation: np.ndarray, action: int) -> float:
    return 1 + float(observation[0]) + 3 * action


def of_time(observation: np.ndarray, steps: int) -> float:
    return 2 + float(observation[0]) + 0.5 * steps


def of_step(observation: np.ndarray, action: int, arrived: np.ndarray) -> float:
    return 7.0


def made(kind: Kind, function: str, weight: float = 1.0) -> gym.Env:
    return shaped(Walk(), ShapingSettings(kind=kind, function=f"{__name__}:{function}", weight=weight), GAMMA)


def walked(env: gym.Env, actions: list[int]) -> tuple[float, bool]:
    """The discounted sum of what was added in an episode, and whether it ended by itself."""
    env.reset()
    total = 0.0
    for time, action in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(action)
        assert reward == pytest.approx(info[TRUE_REWARD] + info[ADDED_REWARD])
        assert info["own"] == 1
        total += GAMMA**time * info[ADDED_REWARD]
        if terminated or truncated:
            return total, terminated
    raise AssertionError("no end")


walks = st.lists(st.integers(0, 2), min_size=6, max_size=6)


@given(walks)
@settings(max_examples=50)
def test_what_a_potential_of_states_pays_depends_on_the_start_and_the_cut_off_alone(actions: list[int]) -> None:
    """-Phi(start) where the episode ended; where it was cut off, gamma^6 Phi(last) besides."""
    total, ended = walked(made("state", "of_state"), actions)
    place = sum(actions) - 6
    assert total == pytest.approx(-2.0 if ended else -2.0 + GAMMA**6 * (2 + place**2))


@given(walks)
@settings(max_examples=50)
def test_a_potential_over_time_pays_back_what_a_state_was_worth_when_it_was_entered(actions: list[int]) -> None:
    total, ended = walked(made("dynamic", "of_time"), actions)
    place = sum(actions) - 6
    assert total == pytest.approx(-2.0 if ended else -2.0 + GAMMA**6 * (2 + place + 0.5 * 6))


@given(walks)
@settings(max_examples=50)
def test_look_back_advice_leaves_nothing_of_an_episode_that_ended(actions: list[int]) -> None:
    total, ended = walked(made("state and action", "of_action"), actions)
    before = sum(actions[:5]) - 5
    assert total == pytest.approx(0.0 if ended else GAMMA**5 * (1 + before + 3 * actions[5]))


def test_a_weight_multiplies_and_wrappers_within_wrappers_keep_the_innermost_reward() -> None:
    inner = made("bonus", "of_step", weight=0.5)
    outer = shaped(inner, ShapingSettings(kind="bonus", function=f"{__name__}:of_step"), GAMMA)
    outer.reset()
    _, reward, _, _, info = outer.step(2)
    assert (reward, info[TRUE_REWARD], info[ADDED_REWARD]) == (11.5, 1.0, 10.5)


def test_a_bonus_is_labelled_and_a_potential_is_not() -> None:
    kinds: list[tuple[Kind, float]] = [("bonus", 1.0), ("state", 0.0)]
    for kind, label in kinds:
        shaping = Shaping(ShapingSettings(kind=kind, function=f"{__name__}:of_step"))
        assert shaping.after_iteration(SimpleNamespace(), 0) == {CHANGES_TASK: label}  # type: ignore[arg-type]
        text = shaping.sections(SimpleNamespace())[0].text  # type: ignore[arg-type]
        assert ("may not be best for the task" in text) is bool(label)


def test_a_function_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"shaping\.function: module .* has no function 'missing'"):
        Shaping(ShapingSettings(function=f"{__name__}:missing"))
