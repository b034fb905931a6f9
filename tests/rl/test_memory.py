"""DQN's memory of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.rl.memory import Memory


def filled(memory: Memory, rewards: list[float], *, terminated: bool) -> Memory:
    steps = len(rewards)
    obs_T1D = np.arange(steps + 1, dtype=np.float32)[:, None]
    memory.add(obs_T1D, np.arange(steps), np.array(rewards, dtype=np.float32), terminated=terminated)
    return memory


def test_one_step_rows_are_the_steps() -> None:
    rows = filled(Memory(10, n_step=1, gamma=0.9), [1.0, 2.0, 3.0], terminated=True).state()
    assert rows["rewards"].tolist() == [1.0, 2.0, 3.0]
    assert rows["next_obs"][:, 0].tolist() == [1.0, 2.0, 3.0]
    assert rows["terminated"].tolist() == [False, False, True]


def test_rows_of_several_steps_sum_discounted_rewards_and_end_where_they_lead() -> None:
    rows = filled(Memory(10, n_step=3, gamma=0.5), [1.0, 2.0, 4.0, 8.0], terminated=True).state()
    # by hand: 1 + 0.5 * 2 + 0.25 * 4, then 2 + 0.5 * 4 + 0.25 * 8, and what is left
    assert rows["rewards"].tolist() == [3.0, 6.0, 8.0, 8.0]
    assert rows["next_obs"][:, 0].tolist() == [3.0, 4.0, 4.0, 4.0]
    assert rows["n_step"].tolist() == [3.0, 3.0, 2.0, 1.0]
    assert rows["terminated"].tolist() == [False, True, True, True]


def test_a_chunk_that_goes_on_terminates_nothing() -> None:
    rows = filled(Memory(10, n_step=3, gamma=0.5), [1.0, 2.0], terminated=False).state()
    assert not rows["terminated"].any()


def test_a_full_memory_forgets_the_oldest_steps() -> None:
    memory = Memory(4, n_step=1, gamma=0.9)
    filled(memory, [1.0, 2.0, 3.0], terminated=True)
    filled(memory, [4.0, 5.0, 6.0], terminated=True)
    assert memory.state()["rewards"].tolist() == [3.0, 4.0, 5.0, 6.0]


def test_a_restored_memory_draws_what_the_first_one_would() -> None:
    memory = Memory(5, n_step=1, gamma=0.9)
    filled(memory, [1.0, 2.0, 3.0], terminated=True)
    again = Memory(5, n_step=1, gamma=0.9)
    again.set_state(memory.state())
    for held in (memory, again):
        filled(held, [4.0, 5.0, 6.0], terminated=False)
    assert again.state()["rewards"] == pytest.approx(memory.state()["rewards"])
    drawn = [held.draw(6, np.random.default_rng(3))["obs"] for held in (again, again)]
    assert np.array_equal(*drawn)
