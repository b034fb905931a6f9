"""Steps of several environments side by side, as arrays, cut into chunks of episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Infos = list[dict[str, Any]] | None
"""One per environment; None where all are empty."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive steps of one episode: T actions and rewards, T + 1 observations and infos."""

    env: int
    obs: NDArray[np.float32]
    infos: list[dict[str, Any]]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    terminated: bool
    truncated: bool
    extra: dict[str, NDArray[Any]]


class Rollout:
    """Collects steps. An environment that was done is reset by its next step, which belongs to no episode."""

    def __init__(self, obs_ND: NDArray[np.float32], infos: Infos, done_N: NDArray[np.bool_]) -> None:
        """done_N: environments that the first step resets."""
        self.obs, self.infos = [obs_ND], [infos]
        self.done_N, self.done_before_N = done_N, done_N
        self.actions: list[NDArray[Any]] = []
        self.rewards: list[NDArray[Any]] = []
        self.terminated: list[NDArray[np.bool_]] = []
        self.truncated: list[NDArray[np.bool_]] = []
        self.extra: list[Mapping[str, NDArray[Any]]] = []
        self.steps = 0
        """Without those that only reset an environment."""

    def add(
        self,
        actions_N: NDArray[Any],
        rewards_N: NDArray[Any],
        terminated_N: NDArray[np.bool_],
        truncated_N: NDArray[np.bool_],
        obs_ND: NDArray[np.float32],
        infos: Infos,
        extra: Mapping[str, NDArray[Any]],
    ) -> None:
        self.steps += len(rewards_N) - int(self.done_N.sum())
        self.done_N = terminated_N | truncated_N
        self.actions.append(actions_N)
        self.rewards.append(np.array(rewards_N, dtype=np.float32))
        self.terminated.append(np.array(terminated_N))
        self.truncated.append(np.array(truncated_N))
        self.obs.append(obs_ND)
        self.infos.append(infos)
        self.extra.append(extra)

    def chunks(self) -> Iterator[Chunk]:
        """In the order of environments, and of time in each."""
        obs_NTD = np.stack(self.obs, axis=1)
        actions_NT, rewards_NT = np.stack(self.actions, axis=1), np.stack(self.rewards, axis=1)
        terminated_NT, truncated_NT = np.stack(self.terminated, axis=1), np.stack(self.truncated, axis=1)
        extra = {name: np.stack([part[name] for part in self.extra], axis=1) for name in self.extra[0]}
        length = rewards_NT.shape[1]
        for env, done_T in enumerate(terminated_NT | truncated_NT):
            # the step after an episode's last one resets: the next chunk starts behind it
            start = int(self.done_before_N[env])
            for last in [*np.flatnonzero(done_T).tolist(), length - 1]:
                if start <= last:
                    steps = slice(start, last + 1)
                    yield Chunk(
                        env,
                        obs_NTD[env, start : last + 2],
                        [found[env] if found else {} for found in self.infos[start : last + 2]],
                        actions_NT[env, steps],
                        rewards_NT[env, steps],
                        bool(terminated_NT[env, last]),
                        bool(truncated_NT[env, last]),
                        {name: values[env, steps] for name, values in extra.items()},
                    )
                start = last + 2
