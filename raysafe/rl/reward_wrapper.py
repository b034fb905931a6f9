"""An environment whose reward has something added to it; the environment's own stays in `info`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from raysafe.rl.extension import TRUE_REWARD

ADDED_REWARD = "added_reward"


class AddedReward(gym.Wrapper):
    """What `added` returns joins the reward, and stands in `info` by itself; nothing is added before the first step.

    Of several around each other, the innermost keeps the true reward.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation: Any = None

    def started(self) -> None:
        """Called when an episode has begun."""

    def added(self, action: Any, observation: Any, terminated: bool) -> float:
        """For the step from `self.observation` to `observation`. A truncated episode would have gone on."""
        raise NotImplementedError

    def before(self, action: Any) -> None:
        """Called before the environment takes a step."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.observation, info = self.env.reset(**options)
        self.started()
        return self.observation, {**info, TRUE_REWARD: 0.0, ADDED_REWARD: 0.0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.before(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        added = self.added(action, observation, terminated)
        self.observation = observation
        kept = {
            **info,
            TRUE_REWARD: info.get(TRUE_REWARD, float(reward)),
            ADDED_REWARD: info.get(ADDED_REWARD, 0.0) + added,
        }
        return observation, float(reward) + added, terminated, truncated, kept
