"""EPIC and DARD against their definitions written out as sums; invariances; samples against exact distances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import DataError
from raysafe.irl.epic import dard, epic
from raysafe.irl.epic_sampled import Transitions, dard_sampled, epic_sampled
from raysafe.irl.regret import policy_regret, value_difference
from raysafe.rl.planning import optimal
from tests.irl.problems import grid, random_mdp, sparse_of

SEEDS = st.integers(0, 10_000)
S, A, GAMMA = 5, 3, 0.9


def shaped(rewards: np.ndarray, potential_S: np.ndarray, scale: float) -> np.ndarray:
    """(S, A, S): scale * reward + gamma potential(s') - potential(s)."""
    whole_SAS = np.broadcast_to(rewards if rewards.ndim == 3 else rewards[:, :, None], (S, A, S))
    return scale * whole_SAS + GAMMA * potential_S - potential_S[:, None, None]


@settings(max_examples=20)
@given(SEEDS, st.floats(0.01, 100), st.sampled_from([2, 3]), st.booleans())
def test_shaping_and_scale_leave_no_distance(seed: int, scale: float, axes: int, thin: bool) -> None:
    draw = np.random.default_rng(seed)
    rewards = draw.normal(size=(S, A, S)[:axes])
    other = shaped(rewards, draw.normal(size=S, scale=10), scale) + draw.normal()
    mdp = sparse_of(random_mdp(seed)) if thin else random_mdp(seed)
    weights = {"states_S": draw.dirichlet(np.ones(S)), "actions_A": draw.dirichlet(np.ones(A))}
    assert epic(rewards, other, GAMMA, **weights) <= 1e-9
    assert epic(rewards, other, GAMMA, coverage_SAS=draw.random((S, A, S))) <= 1e-9
    assert dard(rewards, other, mdp, GAMMA, weights["actions_A"]) <= 1e-9
    assert dard(rewards, other, mdp, GAMMA, coverage_SA=draw.random((S, A))) <= 1e-9


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([2, 3]))
def test_they_are_pseudometrics_and_opposites_are_farthest_apart(seed: int, axes: int) -> None:
    draw = np.random.default_rng(seed)
    one, two, three = draw.normal(size=(3, *(S, A, S)[:axes]))
    mdp = random_mdp(seed)
    for distance in (lambda a, b: epic(a, b, GAMMA), lambda a, b: dard(a, b, mdp, GAMMA)):
        assert distance(one, two) == pytest.approx(distance(two, one), abs=1e-12)
        assert distance(one, three) <= distance(one, two) + distance(two, three) + 1e-12
        assert distance(one, -one) == pytest.approx(1, abs=1e-12)
        assert 0.01 < distance(one, two) <= 1


def correlation_distance(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> float:
    rho = np.cov(one.ravel(), other.ravel(), aweights=weights.ravel(), ddof=0)
    return float(np.sqrt((1 - rho[0, 1] / np.sqrt(rho[0, 0] * rho[1, 1])) / 2))


@pytest.mark.parametrize("axes", [2, 3])
def test_epic_is_its_definition(axes: int) -> None:
    draw = np.random.default_rng(axes)
    states_S, actions_A = draw.dirichlet(np.ones(S)), draw.dirichlet(np.ones(A))
    tables = draw.normal(size=(2, *(S, A, S)[:axes]))
    made = []
    for table in tables:
        whole = np.broadcast_to(table if axes == 3 else table[:, :, None], (S, A, S))
        canonical = np.array(whole)
        for s, a, n in np.ndindex(S, A, S):
            for b, y in np.ndindex(A, S):
                chance = actions_A[b] * states_S[y]
                canonical[s, a, n] += chance * (GAMMA * whole[n, b, y] - whole[s, b, y])
                canonical[s, a, n] -= chance * GAMMA * sum(states_S[x] * whole[x, b, y] for x in range(S))
        made.append(canonical)
    product_SAS = states_S[:, None, None] * actions_A[:, None] * states_S
    expected = correlation_distance(made[0], made[1], product_SAS)
    assert epic(tables[0], tables[1], GAMMA, states_S, actions_A) == pytest.approx(expected, abs=1e-9)
    coverage_SAS = draw.random((S, A, S))
    expected = correlation_distance(made[0], made[1], coverage_SAS)
    found = epic(tables[0], tables[1], GAMMA, states_S, actions_A, coverage_SAS)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("axes", [2, 3])
def test_dard_is_its_definition(axes: int) -> None:
    draw = np.random.default_rng(axes)
    mdp = random_mdp(axes, terminal=False)
    moves_SAS, actions_A = np.asarray(mdp.transitions), draw.dirichlet(np.ones(A))
    tables = draw.normal(size=(2, *(S, A, S)[:axes]))
    made = []
    for table in tables:
        whole = np.broadcast_to(table if axes == 3 else table[:, :, None], (S, A, S))
        canonical = np.array(whole)
        for s, a, n in np.ndindex(S, A, S):
            for b, x, y in itertools.product(range(A), range(S), range(S)):
                chance = actions_A[b] * moves_SAS[s, b, x] * moves_SAS[n, b, y]
                canonical[s, a, n] += chance * (GAMMA * whole[n, b, y] - whole[s, b, x] - GAMMA * whole[x, b, y])
        made.append(canonical)
    expected = correlation_distance(made[0], made[1], moves_SAS * actions_A[:, None] / S)
    assert dard(tables[0], tables[1], mdp, GAMMA, actions_A) == pytest.approx(expected, abs=1e-9)


def test_a_reward_that_does_not_vary_is_near_no_other() -> None:
    rewards_SA, mdp = np.random.default_rng(0).normal(size=(S, A)), random_mdp(0)
    nothing_SA, potential_SAS = np.full((S, A), 7.0), shaped(np.zeros((S, A)), np.arange(S) * 1.0, 1.0)
    for flat in (nothing_SA, potential_SAS):
        for found in (epic(rewards_SA, flat, GAMMA), dard(rewards_SA, flat, mdp, GAMMA)):
            assert found == pytest.approx(np.sqrt(0.5), abs=1e-12)
        assert epic(nothing_SA, flat, GAMMA) == dard(nothing_SA, flat, mdp, GAMMA) == 0


def test_tables_that_differ_in_shape_are_refused() -> None:
    with pytest.raises(DataError, match="second must be a table"):
        epic(np.zeros((3, 2)), np.zeros((4, 2)), GAMMA)
    with pytest.raises(DataError, match="states_S must be 3 weights"):
        epic(np.zeros((3, 2)), np.zeros((3, 2)), GAMMA, states_S=np.zeros(3))
    with pytest.raises(DataError, match="the MDP of 5, 3"):
        dard(np.zeros((3, 2)), np.zeros((3, 2)), random_mdp(0), GAMMA)


def goal(states: np.ndarray, actions: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    return -np.abs(next_states[:, 0] - 0.5) - 0.1 * actions[:, 0] ** 2


def other_goal(states: np.ndarray, actions: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    return -np.abs(next_states[:, 0] + 0.5) + 0.05 * states[:, 0]


def reshaped(states: np.ndarray, actions: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    return 3 * goal(states, actions, next_states) + GAMMA * np.exp(next_states[:, 0]) - np.exp(states[:, 0])


def moved(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return np.clip(states + 0.2 * actions, -1, 1)


def test_samples_leave_no_distance_between_shaped_rewards() -> None:
    draw = np.random.default_rng(0)
    states, actions, means = draw.uniform(-1, 1, (3, 200, 1))
    coverage = Transitions(states, actions, moved(states, actions))
    for first, second, low, high in ((goal, reshaped, 0, 1e-9), (goal, other_goal, 0.2, 1)):
        assert low <= epic_sampled(first, second, GAMMA, coverage, means[:50], actions[50:100]) <= high
        assert low <= dard_sampled(first, second, GAMMA, coverage, actions[:50], moved) <= high


def test_samples_of_everything_give_the_exact_distances() -> None:
    """Each state and action once, with dynamics that aren't random, are the whole of the distributions."""
    draw = np.random.default_rng(0)
    tables = draw.normal(size=(2, S, A, S))
    next_SA = draw.integers(0, S, (S, A))
    rewards = [lambda s, a, n, table=table: table[s, a, n] for table in tables]
    s, a, n = (axis.ravel() for axis in np.meshgrid(np.arange(S), np.arange(A), np.arange(S), indexing="ij"))
    b, y = (axis.ravel() for axis in np.meshgrid(np.arange(A), np.arange(S), indexing="ij"))
    found = epic_sampled(rewards[0], rewards[1], GAMMA, Transitions(s, a, n), y, b)
    assert found == pytest.approx(epic(tables[0], tables[1], GAMMA), abs=1e-12)
    mdp = random_mdp(0, terminal=False)
    known = type(mdp)(np.eye(S)[next_SA], mdp.initial_S)
    s, a = (axis.ravel() for axis in np.meshgrid(np.arange(S), np.arange(A), indexing="ij"))
    covered = Transitions(s, a, next_SA[s, a])
    sampled = dard_sampled(rewards[0], rewards[1], GAMMA, covered, np.arange(A), lambda s, a: next_SA[s, a])
    assert sampled == pytest.approx(dard(tables[0], tables[1], known, GAMMA), abs=1e-12)


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([None, 4]))
def test_no_reward_that_is_learned_gains_more_than_the_true_one(seed: int, horizon: int | None) -> None:
    draw, mdp = np.random.default_rng(seed), random_mdp(seed)
    true_SA, learned_SA = draw.normal(size=(2, S, A))
    found = policy_regret(mdp, true_SA, learned_SA, GAMMA, horizon)
    assert found.lost >= -1e-9
    assert policy_regret(mdp, true_SA, 3 * true_SA, GAMMA, horizon).share == pytest.approx(0, abs=1e-9)
    if horizon is None:
        # what is expected of a potential changes no greedy policy, though EPIC on (S, A) tables sees it
        potential_S = np.where(mdp.ends_S, 0.0, draw.normal(size=S))
        moved_SA = true_SA + GAMMA * mdp.expected(potential_S) - potential_S[:, None]
        assert policy_regret(mdp, true_SA, moved_SA, GAMMA).share == pytest.approx(0, abs=1e-9)


def test_random_actions_lose_the_whole_difference() -> None:
    mdp, rewards_SA = grid(4), np.eye(16)[:, [15]] * np.ones(4)
    found = value_difference(mdp, rewards_SA, np.full((16, 4), 0.25), 0.9)
    assert found.share == pytest.approx(1)
    assert value_difference(mdp, rewards_SA, optimal(mdp, rewards_SA, 0.9).policy, 0.9).share == pytest.approx(0)
    assert value_difference(mdp, np.ones((16, 4)), np.full((16, 4), 0.25), 0.9).share == 0
