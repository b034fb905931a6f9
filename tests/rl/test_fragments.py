"""Fragments: cut once, in order, whatever the chunks that an episode comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.data.trajectories import Trajectory
from raysafe.rl.fragments import FragmentPool, random_pairs


def fill(pool: FragmentPool, sizes: list[int], *, terminated: bool = False, truncated: bool = False) -> None:
    """An episode whose observation, action and reward are the number of the step, in chunks of these sizes."""
    start = 0
    for place, size in enumerate(sizes):
        steps = np.arange(start, start + size)
        last = place == len(sizes) - 1
        pool.add(
            "episode",
            np.arange(start, start + size + 1, dtype=np.float32)[:, None],
            steps,
            steps.astype(float),
            terminated=terminated and last,
            truncated=truncated and last,
        )
        start += size


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.sampled_from(["goes on", "terminated", "truncated"]))
def test_chunks_give_the_fragments_of_the_whole_episode(sizes: list[int], how: str) -> None:
    pool = FragmentPool(4, 100)
    fill(pool, sizes, terminated=how == "terminated", truncated=how == "truncated")
    steps = sum(sizes)
    seen = [number for found in pool.fragments for number in found.actions_T.tolist()]
    assert seen == list(range(steps if how == "terminated" else steps // 4 * 4))
    for found in pool.fragments:
        assert found.obs_T1D is not None and found.rewards_T is not None
        assert found.obs_T1D[:, 0].tolist() == [*found.actions_T.tolist(), found.actions_T[-1] + 1]
        assert found.rewards_T.tolist() == found.actions_T.tolist()
    assert sum(found.terminated for found in pool.fragments) == (how == "terminated")


def test_the_oldest_fragments_go_first() -> None:
    pool = FragmentPool(2, 3)
    fill(pool, [10])
    assert [found.actions_T[0] for found in pool.fragments] == [4, 6, 8]


@pytest.mark.parametrize("count", [3, 10, 50])
def test_pairs_are_distinct_and_of_different_fragments(count: int) -> None:
    fragments = [Trajectory(actions_T=np.array([0]), states_T1=np.array([number, 0])) for number in range(5)]
    pairs = random_pairs(fragments, count, np.random.default_rng(0))
    sides = [frozenset(int(side.states_T1[0]) for side in pair if side.states_T1 is not None) for pair in pairs]
    assert len(set(sides)) == len(sides) == min(count, 10)
    assert all(len(pair) == 2 for pair in sides)
