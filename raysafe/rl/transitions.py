"""Transitions as vectors: what a reward network sees of a step, be it in a fragment, in training or in a table."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError

Sees = Literal["state", "state-action", "transition"]


class TransitionShape(Config):
    """What states and actions are made of, and which of them a reward depends on."""

    obs_features: int = Field(ge=1, description="Numbers in a flattened observation.")
    actions: int | None = Field(default=None, ge=1, description="Number of discrete actions.")
    action_features: int | None = Field(default=None, ge=1, description="Numbers in a continuous action.")
    sees: Sees = Field(
        default="state-action", description="A reward of the state, of state and action, or of both and the next state."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.actions is None) == (self.action_features is None):
            raise ValueError("give either actions (discrete) or action_features (continuous)")
        return self

    @property
    def features(self) -> int:
        """Numbers that describe a step."""
        width = self.actions or self.action_features or 0
        return {
            "state": self.obs_features,
            "state-action": self.obs_features + width,
            "transition": 2 * self.obs_features + width,
        }[self.sees]

    def encode(self, obs_TD: NDArray[Any], actions_T: NDArray[Any], next_obs_TD: NDArray[Any]) -> NDArray[np.float32]:
        """(T, features); discrete actions one-hot. Raises DataError where the steps have another shape."""
        steps = len(actions_T)
        parts = [obs_TD.reshape(steps, -1)]
        if self.sees != "state":
            parts.append(self._action_vectors(actions_T))
        if self.sees == "transition":
            parts.append(next_obs_TD.reshape(steps, -1))
        encoded_TF = np.concatenate(parts, axis=1).astype(np.float32, copy=False)
        if encoded_TF.shape[1] != self.features:
            raise DataError(
                f"a step has {encoded_TF.shape[1]} numbers, the reward model takes {self.features}: it was made for "
                "another environment"
            )
        return encoded_TF

    def encode_trajectory(self, trajectory: Trajectory) -> NDArray[np.float32]:
        """(T, features)."""
        if trajectory.obs_T1D is None:
            raise DataError("a fragment has no observations: a reward network can't see its states")
        return self.encode(trajectory.obs_T1D[:-1], trajectory.actions_T, trajectory.obs_T1D[1:])

    def _action_vectors(self, actions_T: NDArray[Any]) -> NDArray[np.float32]:
        if self.actions is None:
            return actions_T.reshape(len(actions_T), -1).astype(np.float32, copy=False)
        if len(actions_T) and not 0 <= actions_T.min() <= actions_T.max() < self.actions:
            raise DataError(f"there are {self.actions} actions, found the action {int(actions_T.max())}")
        return np.eye(self.actions, dtype=np.float32)[actions_T.astype(np.int64).reshape(-1)]


def shape_of(observation_space: Any, action_space: Any, sees: Sees) -> TransitionShape:
    """From gymnasium spaces; raises ConfigError for actions that are neither numbered nor vectors."""
    from gymnasium import spaces

    obs_features = flat_size(observation_space)
    if isinstance(action_space, spaces.Discrete):
        return TransitionShape(obs_features=obs_features, actions=int(action_space.n), sees=sees)
    if isinstance(action_space, spaces.Box):
        width = int(np.prod(action_space.shape))
        return TransitionShape(obs_features=obs_features, action_features=width, sees=sees)
    raise ConfigError(f"learned_reward knows discrete actions and vectors, this environment has {action_space}")


def flat_size(space: Any) -> int:
    """Numbers in a flattened observation; raises ConfigError for a space without a fixed size."""
    from gymnasium.spaces import flatdim

    try:
        return int(flatdim(space))
    except (NotImplementedError, ValueError):
        raise ConfigError(f"learned_reward needs observations of a fixed size, this environment has {space}") from None


def flatten_observations(space: Any, obs_N: Any) -> NDArray[np.float32]:
    """(N, D) of N observations as the environment gives them, or as a connector has flattened them already."""
    from gymnasium import spaces

    size = flat_size(space)
    if isinstance(obs_N, np.ndarray) and obs_N.dtype != object:
        count = len(obs_N)
        if isinstance(space, spaces.Discrete) and obs_N.ndim == 1:
            return np.eye(size, dtype=np.float32)[obs_N.astype(np.int64) - int(space.start)]
        if isinstance(space, spaces.Box) or obs_N.size == count * size:
            return obs_N.reshape(count, -1).astype(np.float32, copy=False)
    return np.stack([np.asarray(spaces.flatten(space, obs), dtype=np.float32).reshape(-1) for obs in obs_N])
