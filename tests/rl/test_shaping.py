"""Shaping with potentials in 1,000 random problems at once (blocks of one sparse MDP), and bonuses that are none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from raysafe.errors import DataError
from raysafe.rl.invariance import compare, greedy_actions, invariance, q_values
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import optimal
from raysafe.rl.shaping import advised_q, dynamic_shaping, look_ahead, look_back, state_shaping

PROBLEMS, STATES, ACTIONS, GAMMA = 1000, 5, 3, 0.9


def many(problems: int = PROBLEMS, states: int = STATES) -> tuple[TabularMDP, np.ndarray, np.random.Generator]:
    """Random problems side by side. In each, the last state is terminal, two actions of the first state are equal in
    all but name, so that its greedy set may have two members, and each step leads to at most two states."""
    draw = np.random.default_rng(7)
    pairs = problems * states * ACTIONS
    split = draw.uniform(size=pairs)
    first, second = draw.integers(states, size=(2, pairs))
    block = np.repeat(np.arange(problems) * states, states * ACTIONS)
    at = np.arange(problems) * states * ACTIONS
    rewards_SA = draw.normal(size=(problems * states, ACTIONS))
    for column in (split, first, second, rewards_SA.reshape(-1)):
        column[at + 1] = column[at]
    data, columns = np.concatenate([split, 1 - split]), np.concatenate([block + first, block + second])
    rows = sparse.coo_array((data, (np.tile(np.arange(pairs), 2), columns)), (pairs, problems * states)).tocsr()
    ends_S = np.arange(problems * states) % states == states - 1
    initial_S = np.full(problems * states, 1 / (problems * states))
    return TabularMDP(sparse.csr_array(rows), initial_S, ends_S), rewards_SA, draw


def problems_changed(changed: np.ndarray) -> int:
    return int(changed.reshape(-1, PROBLEMS, STATES).any(axis=(0, 2)).sum())


def test_a_potential_of_states_leaves_the_greedy_actions_of_1000_problems_as_they_are() -> None:
    mdp, rewards_SA, draw = many()
    potential_S = 3 * draw.normal(size=mdp.states)
    report = invariance(mdp, rewards_SA, rewards_SA + state_shaping(mdp, potential_S, GAMMA), GAMMA)
    assert report.unchanged
    assert str(report) == "keeps the task: the same greedy actions in all 5000 states"


def test_ties_are_among_the_greedy_actions_that_are_compared() -> None:
    mdp, rewards_SA, _ = many()
    assert (greedy_actions(optimal(mdp, rewards_SA, GAMMA).q).sum(axis=1)[::STATES] == 2).sum() > 100


def test_a_bonus_that_is_no_potential_changes_most_of_1000_problems() -> None:
    """One as large as the rewards changes 868 of them, one of a tenth of their spread still hundreds."""
    mdp, rewards_SA, draw = many()
    bonus_SA = draw.normal(size=rewards_SA.shape)
    as_large = invariance(mdp, rewards_SA, rewards_SA + bonus_SA, GAMMA)
    small = invariance(mdp, rewards_SA, rewards_SA + 0.1 * bonus_SA, GAMMA)
    assert problems_changed(as_large.changed) == 868
    assert 100 < problems_changed(small.changed) < 868
    assert "changes the task" in str(small)
    assert (small.loss[small.changed] > 0).any()


def test_a_potential_that_terminal_states_keep_changes_the_task() -> None:
    """Grzes 2017: what F pays must be 0 minus Phi(s) at the end."""
    mdp, rewards_SA, draw = many()
    potential_S = 3 * draw.normal(size=mdp.states)
    kept_SA = (mdp.rows @ potential_S).reshape(rewards_SA.shape) * GAMMA - potential_S[:, None]
    assert problems_changed(invariance(mdp, rewards_SA, rewards_SA + kept_SA, GAMMA).changed) > 0


def test_a_potential_for_another_discount_changes_the_task() -> None:
    mdp, rewards_SA, draw = many()
    shaped_SA = rewards_SA + state_shaping(mdp, 3 * draw.normal(size=mdp.states), 1.0)
    assert problems_changed(invariance(mdp, rewards_SA, shaped_SA, GAMMA).changed) > 0


def test_look_ahead_advice_leaves_the_greedy_actions_of_1000_problems_as_they_are() -> None:
    mdp, rewards_SA, draw = many()
    potential_SA = 3 * draw.normal(size=rewards_SA.shape)
    true_q_SA, q_SA = q_values(mdp, rewards_SA, GAMMA), advised_q(mdp, rewards_SA, potential_SA, GAMMA)
    assert compare(true_q_SA, q_SA + potential_SA, mdp).unchanged
    inner = ~mdp.ends_S
    assert q_SA[inner] == pytest.approx((true_q_SA - potential_SA)[inner], abs=1e-9)


def test_look_ahead_advice_left_out_of_the_choice_changes_the_task() -> None:
    mdp, rewards_SA, draw = many()
    potential_SA = 3 * draw.normal(size=rewards_SA.shape)
    q_SA = q_values(mdp, rewards_SA, GAMMA)
    assert problems_changed(compare(q_SA, q_SA - potential_SA, mdp).changed) > PROBLEMS / 2


def test_look_back_advice_leaves_the_greedy_actions_of_1000_problems_as_they_are() -> None:
    mdp, rewards_SA, draw = many(states=4)
    history, true_NA, shaped_NA = look_back(mdp, rewards_SA, 3 * draw.normal(size=rewards_SA.shape), GAMMA)
    report = invariance(history, true_NA, shaped_NA, GAMMA)
    assert report.unchanged
    assert report.changed.size > 4 * mdp.states


def test_a_potential_that_changes_over_time_leaves_the_greedy_actions_of_1000_problems_as_they_are() -> None:
    mdp, rewards_SA, draw = many()
    potential_TS = 3 * draw.normal(size=(6, mdp.states))
    shaped_TSA = rewards_SA + dynamic_shaping(mdp, potential_TS, GAMMA)
    report = invariance(mdp, rewards_SA, shaped_TSA, GAMMA, horizon=6)
    assert report.unchanged
    assert report.changed.shape == (6, mdp.states)


def test_a_potential_that_is_left_at_the_horizon_changes_the_task() -> None:
    mdp, rewards_SA, draw = many()
    fixed_SA = state_shaping(mdp, 3 * draw.normal(size=mdp.states), GAMMA)
    assert problems_changed(invariance(mdp, rewards_SA, rewards_SA + fixed_SA, GAMMA, horizon=6).changed) > 0


def test_shaping_by_hand() -> None:
    """Two states and an end: going on earns gamma Phi(1) - Phi(0), the last step only -Phi(1)."""
    transitions_SAS = np.array([[[0.0, 1, 0]], [[0.0, 0, 1]], [[0.0, 0, 1]]])
    mdp = TabularMDP(transitions_SAS, np.array([1.0, 0, 0]), np.array([False, False, True]))
    assert state_shaping(mdp, np.array([2.0, 4.0, 8.0]), 0.5).ravel().tolist() == [0.0, -4.0, 0.0]
    moving = dynamic_shaping(mdp, np.array([[2.0, 4.0, 8.0], [1.0, 6.0, 8.0]]), 0.5)
    assert moving[0].ravel().tolist() == [1.0, -4.0, 0.0]
    assert look_ahead(mdp, np.array([[2.0], [4.0], [8.0]]), 0.5, np.ones((3, 1))).ravel().tolist() == [0.0, -4.0, 0.0]


def test_q_learning_with_a_potential_is_q_learning_that_starts_from_it() -> None:
    """Wiewiora 2003, theorem 1: from the same steps, Q' stays Q less the potential all the way."""
    draw = np.random.default_rng(0)
    potential_S = draw.normal(size=6)
    plain_SA, shaped_SA = np.tile(potential_S[:, None], (1, 2)), np.zeros((6, 2))
    for _ in range(500):
        state, action, arrived, reward = draw.integers(6), draw.integers(2), draw.integers(6), draw.normal()
        plain_SA[state, action] += 0.2 * (reward + 0.9 * plain_SA[arrived].max() - plain_SA[state, action])
        reward += 0.9 * potential_S[arrived] - potential_S[state]
        shaped_SA[state, action] += 0.2 * (reward + 0.9 * shaped_SA[arrived].max() - shaped_SA[state, action])
    assert shaped_SA == pytest.approx(plain_SA - potential_S[:, None], abs=1e-12)


def test_a_potential_of_another_shape_is_refused() -> None:
    mdp, _, _ = many(1)
    with pytest.raises(DataError, match=r"must be \(5,\), got \(4,\)"):
        state_shaping(mdp, np.zeros(4), GAMMA)
    with pytest.raises(DataError, match="finite"):
        state_shaping(mdp, np.full(5, np.nan), GAMMA)
