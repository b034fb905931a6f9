"""RLlib's side of a reward that doesn't come from the environment: where it takes the other's place, and where steps
are gathered. Imported by the driver and by env runners, where Ray is at hand anyway.

The batch's rewards are written, never an episode's. RLlib fills the batch from the episodes only where a column isn't
there yet, and makes advantages of it at the end of the pipeline, so the loss sees these rewards; the episodes keep the
true ones: the runner's metrics add them up even later, and a memory hands them out again, to be rewritten afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

from raysafe.rl.transitions import flatten_observations

StepRewards = Callable[[NDArray[np.float32], NDArray[Any], NDArray[np.float32]], NDArray[np.float64]]
"""Rewards (T,) of steps: observations (T, D), actions as the environment got them, next observations (T, D)."""

_EXTENDED = "_added_loss_mask_for_valid_episode_ts"
"""What RLlib notes when it has put a step after each episode's last, for the value that it is bootstrapped from."""
CHUNKS = "raysafe_chunks"


class Actions:
    """What the environment got for the actions that an episode holds, which are the policy's own, before bounds."""

    def __init__(self, space: gym.Space, *, normalised: bool, clipped: bool) -> None:
        self.space, self.normalised, self.clipped = space, normalised, clipped

    def __call__(self, actions_T: NDArray[Any]) -> NDArray[Any]:
        if not isinstance(self.space, gym.spaces.Box):
            return actions_T
        if self.normalised:
            return np.asarray(unsquash_action(actions_T, self.space))
        return np.asarray(clip_action(actions_T, self.space)) if self.clipped else actions_T


class RewardConnector(ConnectorV2):
    """keep * the reward that would have counted + weight * step_rewards(...), once for each sampled step."""

    def __init__(
        self,
        observation_space: gym.Space,
        actions: Actions,
        step_rewards: StepRewards,
        *,
        keep: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(observation_space, actions.space)
        self.observation_space_of_episodes, self.actions = observation_space, actions
        self.step_rewards, self.keep, self.weight = step_rewards, keep, weight

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        extra = int(bool((shared_data or {}).get(_EXTENDED)))
        found = list(self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False))
        parts = [self._steps(episode, len(episode) - extra) for episode in found]
        learned_N = self.step_rewards(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        before = _Written(batch.pop(Columns.REWARDS, None))
        start = 0
        for episode in found:
            steps = len(episode) - extra
            rewards_T = self.weight * learned_N[start : start + steps]
            if self.keep:
                rewards_T = rewards_T + self.keep * before.of(episode)[:steps]
            start += steps
            whole_T = np.append(rewards_T, np.zeros(extra)).astype(np.float32)
            self.add_n_batch_items(batch, Columns.REWARDS, whole_T, len(whole_T), episode)
        return batch

    def _steps(self, episode: Any, steps: int) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]:
        obs_T1D = flatten_observations(
            self.observation_space_of_episodes, np.asarray(episode.get_observations(slice(0, steps + 1)))
        )
        actions_T = self.actions(np.asarray(episode.get_actions(slice(0, steps))))
        return obs_T1D[:-1], actions_T, obs_T1D[1:]


class _Written:
    """Rewards that a connector before wrote into the batch, in its order, or else the episodes' own."""

    def __init__(self, column: dict[Any, list[Any]] | None) -> None:
        self.rewards = {
            key[0]: np.concatenate([np.atleast_1d(values) for values in part]) for key, part in (column or {}).items()
        }
        self.read = dict.fromkeys(self.rewards, 0)

    def of(self, episode: Any) -> NDArray[np.float64]:
        if episode.id_ not in self.rewards:
            return np.asarray(episode.get_rewards(slice(0, len(episode))), dtype=np.float64)
        # samples of one episode share its name
        start = self.read[episode.id_]
        self.read[episode.id_] = start + len(episode)
        return self.rewards[episode.id_][start : start + len(episode)]


class GatherSteps(RLlibCallback):
    """Keeps a copy of what each training env runner samples, until the driver takes it with `take_chunks`."""

    def on_sample_end(self, *, env_runner: Any, metrics_logger: Any = None, samples: Any, **kwargs: Any) -> None:
        if env_runner.config.in_evaluation:
            return
        chunks = env_runner.__dict__.setdefault(CHUNKS, [])
        for episode in samples:
            steps = len(episode)
            if steps:
                chunks.append(
                    (
                        episode.id_,
                        np.array(episode.get_observations(slice(0, steps + 1))),
                        np.array(episode.get_actions(slice(0, steps))),
                        np.array(episode.get_rewards(slice(0, steps)), dtype=np.float64),
                        bool(episode.is_terminated),
                        bool(episode.is_truncated),
                    )
                )


def take_chunks(env_runner: Any) -> list[tuple[Any, ...]]:
    """What was gathered since the last call."""
    chunks: list[tuple[Any, ...]] = env_runner.__dict__.get(CHUNKS, [])
    env_runner.__dict__[CHUNKS] = []
    return chunks
