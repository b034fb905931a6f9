"""Chunks of episodes from arrays of steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.rl.rollout import Rollout


class Counting:
    """Environments whose observation is their own time step; each ends after its length, and is reset by the next."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths_N = np.array(lengths)
        self.at_N = np.zeros(len(lengths), dtype=int)
        self.done_N = np.zeros(len(lengths), dtype=bool)

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        resets_N = self.done_N
        self.at_N = np.where(resets_N, 0, self.at_N + 1)
        self.done_N = ~resets_N & (self.at_N == self.lengths_N)
        return self.at_N.astype(np.float32)[:, None], np.where(resets_N, 0.0, self.at_N), self.done_N


def sampled(envs: Counting, steps: int, obs_ND: np.ndarray, done_N: np.ndarray) -> Rollout:
    rollout = Rollout(obs_ND, None, done_N)
    for _ in range(steps):
        obs_ND, rewards_N, done_N = envs.step()
        nobody_N = np.zeros_like(done_N)
        rollout.add(obs_ND[:, 0].astype(int), rewards_N, done_N, nobody_N, obs_ND, None, {})
    return rollout


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 20), st.integers(1, 20))
def test_every_step_is_in_one_chunk_and_none_that_only_resets(lengths: list[int], first: int, second: int) -> None:
    envs = Counting(lengths)
    one = sampled(envs, first, np.zeros((len(lengths), 1), dtype=np.float32), np.zeros(len(lengths), dtype=bool))
    two = sampled(envs, second, one.obs[-1], one.done_N)
    times: dict[int, list[int]] = {env: [] for env in range(len(lengths))}
    for rollout in (one, two):
        chunks = list(rollout.chunks())
        assert sum(len(chunk.rewards) for chunk in chunks) == rollout.steps
        for chunk in chunks:
            # the reward of a step is the time that it leads to, which is also its next observation
            assert np.array_equal(chunk.obs[1:, 0], chunk.rewards)
            assert np.array_equal(chunk.obs[:-1, 0] + 1, chunk.obs[1:, 0])
            assert chunk.terminated == (chunk.obs[-1, 0] == lengths[chunk.env])
            times[chunk.env] += chunk.rewards.astype(int).tolist()
    for env, length in enumerate(lengths):
        assert times[env] == [1 + step % length for step in range(len(times[env]))]


def test_a_reset_counts_no_step() -> None:
    rollout = sampled(Counting([2]), 5, np.zeros((1, 1), dtype=np.float32), np.zeros(1, dtype=bool))
    assert rollout.steps == 4


def test_infos_stand_beside_the_observation_that_they_came_with() -> None:
    rollout = Rollout(np.zeros((1, 1), dtype=np.float32), [{"at": 0}], np.zeros(1, dtype=bool))
    no = np.zeros(1, dtype=bool)
    rollout.add(np.zeros(1), np.ones(1), no, no, np.ones((1, 1), dtype=np.float32), [{"at": 1}], {})
    (chunk,) = rollout.chunks()
    assert [info["at"] for info in chunk.infos] == [0, 1]
    assert pytest.approx(chunk.rewards) == [1.0]
