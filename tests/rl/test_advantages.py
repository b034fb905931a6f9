"""Advantages against the sum that defines them, and against RLlib's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.rl.advantages import gae


@given(st.integers(0, 1000), st.floats(0.1, 1.0), st.floats(0.0, 1.0))
def test_advantages_are_the_discounted_sum_of_errors_in_each_chunk(seed: int, gamma: float, lam: float) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, 3)
    count = int(lengths.sum())
    rewards_N, values_N, next_N = (random.normal(size=count).astype(np.float32) for _ in range(3))
    last_N = np.zeros(count, dtype=bool)
    last_N[np.cumsum(lengths) - 1] = True
    found_N = gae(rewards_N, values_N, next_N, last_N, gamma=gamma, lam=lam)
    deltas_N = rewards_N + gamma * next_N - values_N
    start = 0
    for length in lengths:
        for step in range(length):
            rest = deltas_N[start + step : start + length]
            wanted = sum((gamma * lam) ** ahead * delta for ahead, delta in enumerate(rest))
            assert found_N[start + step] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
        start += length
