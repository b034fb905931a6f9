"""Where a learned reward takes the environment's place: once for each sampled step, and nowhere else."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytestmark = pytest.mark.ray

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)


def episode(steps: int, name: str = "e", start: int = 0) -> Any:
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    return SingleAgentEpisode(
        id_=name,
        observations=[np.array([n, 0], dtype=np.float32) for n in range(start, start + steps + 1)],
        actions=[n % 2 for n in range(steps)],
        rewards=[100.0 + n for n in range(steps)],
        observation_space=BOX,
        len_lookback_buffer=0,
    ).to_numpy()


def connector(**options: float) -> Any:
    from raysafe.rl.reward_connector import Actions, RewardConnector

    actions = Actions(gym.spaces.Discrete(2), normalised=True, clipped=False)
    # worth: the number of the step, and 0.5 for action 1
    return RewardConnector(BOX, actions, lambda obs, acts, after: obs[:, 0] + 0.5 * acts, **options)


def test_the_batch_is_written_and_the_episode_is_not() -> None:
    first, second = episode(3, "x"), episode(2, "y", start=10)
    batch = connector()(rl_module=None, batch={}, episodes=[first, second], shared_data={})
    assert np.concatenate(batch["rewards"]["x",]).tolist() == [0, 1.5, 2]
    assert np.concatenate(batch["rewards"]["y",]).tolist() == [10, 11.5]
    assert first.get_rewards().tolist() == [100, 101, 102]


def test_a_step_that_is_drawn_again_is_rewritten_from_the_true_reward() -> None:
    """The same episode twice: added once each time, not on top of the first."""
    kept = episode(2)
    for _ in range(2):
        batch = connector(keep=1.0, weight=2.0)(rl_module=None, batch={}, episodes=[kept], shared_data={})
        assert np.concatenate(batch["rewards"]["e",]).tolist() == [100, 101 + 2 * 1.5]


def test_several_samples_of_one_episode_keep_their_order() -> None:
    samples = [episode(1, start=5), episode(1, start=3), episode(1, start=8)]
    batch = connector()(rl_module=None, batch={}, episodes=samples, shared_data={})
    assert np.concatenate(batch["rewards"]["e",]).tolist() == [5, 3, 8]
    twice = connector(keep=1.0)(rl_module=None, batch=batch, episodes=samples, shared_data={})
    assert np.concatenate(twice["rewards"]["e",]).tolist() == [10, 6, 16]


def test_the_step_that_is_added_for_the_bootstrap_is_worth_nothing() -> None:
    from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate

    found, shared = episode(3), {}
    batch = AddOneTsToEpisodesAndTruncate()(rl_module=None, batch={}, episodes=[found], shared_data=shared)  # type: ignore[arg-type]
    batch = connector()(rl_module=None, batch=batch, episodes=[found], shared_data=shared)
    (rewards,) = batch["rewards"].values()
    assert np.concatenate(rewards).tolist() == [0, 1.5, 2, 0]


def test_continuous_actions_are_those_that_the_environment_gets() -> None:
    from raysafe.rl.reward_connector import Actions

    space = gym.spaces.Box(-2, 2, (1,), np.float32)
    raw_T1 = np.array([[0.5], [3.0]], dtype=np.float32)
    assert Actions(space, normalised=True, clipped=False)(raw_T1).ravel().tolist() == [1.0, 2.0]
    assert Actions(space, normalised=False, clipped=True)(raw_T1).ravel().tolist() == [0.5, 2.0]
