"""Many copies against single environments: the same seeds and actions are the same trajectories."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import raysafe.rl.envs  # noqa: F401
from raysafe.errors import ConfigError
from raysafe.rl.envs.problems import PROBLEMS


def trajectory(env: Any, steps: int) -> list[Any]:
    found = list(env.reset(seed=5))
    draw = np.random.default_rng(0)
    for _ in range(steps):
        found.extend(env.step(draw.integers(0, 5, env.num_envs)))
    return found


@pytest.mark.parametrize("name", PROBLEMS)
def test_copies_go_as_single_environments_do(name: str) -> None:
    """Gymnasium's own loop over single environments is the oracle, over resets and time limits."""
    ours = gymnasium.make_vec(f"raysafe/{name}-v0", num_envs=3, limit=20)
    theirs = gymnasium.make_vec(f"raysafe/{name}-v0", num_envs=3, limit=20, vectorization_mode="sync")
    assert type(ours).__name__ == "VectorGridworldEnv"
    assert ours.observation_space == theirs.observation_space
    for one, other in zip(trajectory(ours, 60), trajectory(theirs, 60), strict=True):
        assert type(one) is type(other)
        if isinstance(one, dict):
            assert {key: one[key].tolist() for key in one} == {key: other[key].tolist() for key in other}
        else:
            assert one.dtype == other.dtype
            assert (one == other).all()


def test_an_episode_in_the_middle_of_a_run_can_be_played_again() -> None:
    env = gymnasium.make("raysafe/FriendFoe-v0", limit=30).unwrapped
    draw, episodes = np.random.default_rng(1), []
    env.reset(seed=9)
    for _ in range(3):
        actions = draw.integers(0, 5, 30)
        episodes.append((actions, [env.step(int(action))[:2] for action in actions]))
        env.reset()
    actions, steps = episodes[2]
    env.reset(seed=9, options={"draw": 2 * 31})
    for action, (obs, reward) in zip(actions, steps, strict=True):
        again = env.step(int(action))
        assert (again[0] == obs).all()
        assert again[1] == reward


def test_seeds_of_copies_differ_and_a_reset_without_one_goes_on() -> None:
    env = gymnasium.make_vec("raysafe/AbsentSupervisor-v0", num_envs=64)
    first = env.reset(seed=0)[0]
    assert len({row.tobytes() for row in first}) == 2
    second = env.reset()[0]
    assert (first != second).any()
    assert (env.reset(seed=0)[0] == first).all()


def test_bad_actions_and_seeds_are_refused() -> None:
    env: Any = gymnasium.make_vec("raysafe/FriendFoe-v0", num_envs=2)
    with pytest.raises(ConfigError, match="call reset"):
        env.step(np.array([0, 1]))
    with pytest.raises(ConfigError, match="one number or 2 of them, got 3"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="2 whole numbers from 0 to 4"):
        env.step(np.array([0, 5]))
