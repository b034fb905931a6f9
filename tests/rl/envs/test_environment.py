"""The environments as gymnasium sees them, and their chance."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import raysafe.rl.envs  # noqa: F401
from raysafe.errors import ConfigError
from raysafe.rl.envs.chance import uniform, uniforms
from raysafe.rl.envs.problems import PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_gymnasiums_checker_has_nothing_to_say(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"raysafe/{name}-v0", render_mode="rgb_array").unwrapped)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_chance_of_many_is_the_chance_of_each(key: int, draw: int) -> None:
    keys_N = np.array([key, 7], dtype=np.uint64)
    assert uniforms(keys_N, np.array([draw, 3], dtype=np.uint64)).tolist() == [uniform(key, draw), uniform(7, 3)]


def test_chance_is_splitmix64() -> None:
    """The first outputs for seed 1234567 in the generator's published test vector."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [uniform(1234567, draw) for draw in range(3)] == [(word >> 11) * 2.0**-53 for word in published]


def test_what_is_no_action_is_refused() -> None:
    env = gymnasium.make("raysafe/SafeInterruptibility-v0").unwrapped
    with pytest.raises(ConfigError, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="from 0 to 4, got 5"):
        env.step(5)


def test_what_is_no_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'interuption'.*did you mean 'interruption'"):
        gymnasium.make("raysafe/SafeInterruptibility-v0", interuption=0.1)
