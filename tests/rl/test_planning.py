"""Planning against enumeration of all policies, dense against sparse, and flow conservation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from raysafe.errors import ConfigError, DataError
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import evaluate, occupancy, optimal


def random_mdp(seed: int, states: int = 4, actions: int = 2, terminal: bool = True) -> tuple[TabularMDP, np.ndarray]:
    draw = np.random.default_rng(seed)
    transitions_SAS = draw.dirichlet(np.full(states, 0.5), (states, actions))
    ends_S = np.arange(states) == states - 1 if terminal else None
    return TabularMDP(transitions_SAS, draw.dirichlet(np.ones(states)), ends_S), draw.normal(size=(states, actions))


def sparse_of(mdp: TabularMDP) -> TabularMDP:
    return TabularMDP(sparse.csr_array(mdp.rows), mdp.initial_S, mdp.terminal_S)


@given(st.integers(0, 10_000), st.booleans())
def test_policy_iteration_finds_the_best_of_all_policies(seed: int, terminal: bool) -> None:
    mdp, rewards_SA = random_mdp(seed, terminal=terminal)
    policies = [np.eye(2)[list(choice)] for choice in itertools.product(range(2), repeat=4)]
    best_S = np.max([evaluate(mdp, policy, rewards_SA, 0.9) for policy in policies], axis=0)
    assert optimal(mdp, rewards_SA, 0.9).values == pytest.approx(best_S, abs=1e-9)


@given(st.integers(0, 10_000))
def test_a_long_horizon_is_no_horizon(seed: int) -> None:
    mdp, rewards_SA = random_mdp(seed)
    finite, infinite = optimal(mdp, rewards_SA, 0.8, horizon=150), optimal(mdp, rewards_SA, 0.8)
    assert finite.values[0] == pytest.approx(infinite.values, abs=1e-9)
    policy_SA = np.full((4, 2), 0.5)
    assert evaluate(mdp, policy_SA, rewards_SA, 0.8, 150)[0] == pytest.approx(
        evaluate(mdp, policy_SA, rewards_SA, 0.8), abs=1e-9
    )


@given(st.integers(0, 10_000), st.sampled_from([None, 1, 7]))
def test_occupancy_times_reward_is_the_policys_return(seed: int, horizon: int | None) -> None:
    mdp, rewards_SA = random_mdp(seed)
    policy_SA = np.random.default_rng(seed).dirichlet(np.ones(2), 4)
    values = evaluate(mdp, policy_SA, rewards_SA, 0.9, horizon)
    start_S = values if horizon is None else values[0]
    visits_SA = occupancy(mdp, policy_SA, 0.9, horizon)
    assert (visits_SA * rewards_SA).sum() == pytest.approx(float(mdp.initial_S @ start_S), abs=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([None, 5]))
def test_dense_and_sparse_transitions_agree(seed: int, horizon: int | None) -> None:
    mdp, rewards_SA = random_mdp(seed)
    dense, thin = optimal(mdp, rewards_SA, 0.9, horizon), optimal(sparse_of(mdp), rewards_SA, 0.9, horizon)
    assert thin.values == pytest.approx(dense.values, abs=1e-12)
    assert (thin.policy == dense.policy).all()


def test_values_of_a_walk_by_hand() -> None:
    """Right twice to the end: 1 + 0.5 * 1; nothing is earned in the end itself."""
    transitions_SAS = np.zeros((3, 2, 3))
    transitions_SAS[[0, 1, 2], 0, [0, 0, 2]] = 1
    transitions_SAS[[0, 1, 2], 1, [1, 2, 2]] = 1
    mdp = TabularMDP(transitions_SAS, np.array([1.0, 0, 0]), np.array([False, False, True]))
    rewards_SA = np.tile([0.0, 1.0], (3, 1))
    assert optimal(mdp, rewards_SA, 0.5).values.tolist() == [1.5, 1.0, 0.0]
    assert optimal(mdp, rewards_SA, 1.0, horizon=2).values[0].tolist() == [2.0, 1.0, 0.0]


def test_what_is_no_distribution_is_refused() -> None:
    with pytest.raises(DataError, match="add up to 1"):
        TabularMDP(np.full((2, 1, 2), 0.4), np.array([1.0, 0.0]))
    with pytest.raises(DataError, match=r"must be \(2, A, 2\)"):
        TabularMDP(np.full((3, 1, 3), 1 / 3), np.array([1.0, 0.0]))
    mdp, rewards_SA = random_mdp(0)
    with pytest.raises(ConfigError, match="with a horizon, got 1"):
        optimal(mdp, rewards_SA, 1.0)
