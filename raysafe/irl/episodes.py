"""A policy played in its environment, for the true return: the one thing that imitation doesn't learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysafe.rl.policy import Policy

if TYPE_CHECKING:
    from raysafe.rl.environment import EnvMaker

SEED = 1_000_003
"""Added to an evaluation's seed, so that no training episode has the same."""


def returns(
    policy: Policy, maker: EnvMaker, episodes: int, *, seed: int, side_by_side: int = 64
) -> NDArray[np.float64]:
    """(episodes,): undiscounted true returns, episode i with a seed of its own; the policy takes its likeliest actions.

    The result doesn't depend on how many episodes are played side by side.
    """
    found = np.zeros(episodes)
    for start in range(0, episodes, side_by_side):
        numbers = range(start, min(episodes, start + side_by_side))
        found[numbers.start : numbers.stop] = _play(policy, maker, [SEED + seed * episodes + n for n in numbers])
    return found


def _play(policy: Policy, maker: EnvMaker, seeds: list[int]) -> NDArray[np.float64]:
    envs = [maker.make() for _ in seeds]
    space = envs[0].observation_space
    total_N = np.zeros(len(envs))
    seen = [_flat(space, env.reset(seed=seed)[0]) for env, seed in zip(envs, seeds, strict=True)]
    going = list(range(len(envs)))
    while going:
        actions = policy.act(np.stack([seen[n] for n in going])).actions
        after = []
        for n, action in zip(going, actions, strict=True):
            observation, reward, terminated, truncated, _ = envs[n].step(_shaped(envs[n], action))
            total_N[n] += float(reward)
            seen[n] = _flat(space, observation)
            if not (terminated or truncated):
                after.append(n)
        going = after
    for env in envs:
        env.close()
    return total_N


def _flat(space: Any, observation: Any) -> NDArray[np.float32]:
    from gymnasium.spaces import flatten

    return np.asarray(flatten(space, observation), dtype=np.float32).reshape(-1)


def _shaped(env: Any, action: Any) -> Any:
    return int(action) if np.ndim(action) == 0 else np.asarray(action).reshape(env.action_space.shape)
