"""Value divergence: none for the same wishes in other words, all for their opposite; the least, by enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from raysafe.errors import ConfigError, DataError
from raysafe.irl.value_divergence import importance, least_divergence, regret, stakes, value_divergence, value_range
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import occupancy, optimal
from tests.irl.problems import random_mdp

GAMMA = 0.8


def rewards(seed: int, states: int = 4, actions: int = 2) -> Floats:
    return np.random.default_rng(seed).normal(size=(states, actions))


@given(seed=st.integers(0, 999), scale=st.floats(0.1, 10.0))
def test_scale_and_shaping_do_not_diverge(seed: int, scale: float) -> None:
    mdp, human_SA = random_mdp(seed, states=5), rewards(seed, 5, 3)
    potential_S = np.where(mdp.ends_S, 0.0, rewards(seed + 1, 5, 1)[:, 0])
    shaped_SA = scale * human_SA + GAMMA * mdp.expected(potential_S) - potential_S[:, None]
    found = value_divergence(mdp, human_SA, shaped_SA, GAMMA)
    assert max(found.regret, found.disagreement, found.value_distance) < 1e-5
    assert found.importance_S.sum() == pytest.approx(1.0)


@given(seed=st.integers(0, 999))
def test_the_opposite_wish_diverges_most(seed: int) -> None:
    mdp, human_SA = random_mdp(seed, states=5), rewards(seed, 5, 3)
    found = value_divergence(mdp, human_SA, -human_SA, GAMMA)
    assert found.regret == pytest.approx(1.0)
    assert found.disagreement > 0.5
    assert found.epic == pytest.approx(1.0)
    assert found.value_distance > 0.5


def test_what_is_never_reached_or_at_stake_does_not_matter() -> None:
    # 0 leads to 1; from 2, which nobody enters, too; 1 ends
    moves = np.zeros((3, 2, 3))
    moves[:, :, 1] = 1.0
    mdp = TabularMDP(moves, np.array([1.0, 0.0, 0.0]), np.array([False, True, False]))
    human_SA = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 9.0]])
    agent_SA = np.array([[1.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
    assert importance(mdp, human_SA, GAMMA, np.full((3, 2), 0.5)).tolist() == [1.0, 0.0, 0.0]
    assert value_divergence(mdp, human_SA, agent_SA, GAMMA).disagreement == 0.0
    with pytest.raises(ConfigError, match="every policy is as good for the human"):
        regret(mdp, np.zeros((3, 2)), GAMMA, np.full((3, 2), 0.5))


def test_a_policy_that_errs_half_of_the_time_disagrees_by_half() -> None:
    mdp = TabularMDP(np.ones((1, 2, 1)), np.ones(1))
    human_SA = np.array([[1.0, 0.0]])
    half_SA = np.array([[0.5, 0.5]])
    found = value_divergence(mdp, human_SA, human_SA, GAMMA, agent_policy_SA=half_SA)
    assert (found.disagreement, found.regret) == (pytest.approx(0.5), pytest.approx(0.5))


def enumerated(mdp: TabularMDP, human_SA: Floats, costs_SA: Floats, limit: float, departure_weight: float) -> float:
    """The least divergence over mixtures of all deterministic policies, whose occupancies span all others."""
    vertices = []
    for choice in product(range(mdp.actions), repeat=mdp.states):
        vertices.append(occupancy(mdp, np.eye(mdp.actions)[list(choice)], GAMMA))
    best, worst = value_range(mdp, human_SA, GAMMA)
    wanted_SA = occupancy(mdp, optimal(mdp, human_SA, GAMMA).policy, GAMMA)
    stakes_N = stakes(mdp, human_SA, GAMMA).ravel()
    count, size = len(vertices), wanted_SA.size
    visits_NV = np.stack([vertex.ravel() for vertex in vertices], axis=1)
    objective = np.concatenate(
        [[(best - (vertex * human_SA).sum()) / (best - worst) for vertex in vertices], departure_weight * stakes_N]
    )
    upper = np.block(
        [
            [np.array([(vertex * costs_SA).sum() for vertex in vertices]), np.zeros(size)],
            [visits_NV, -np.eye(size)],
            [-visits_NV, -np.eye(size)],
        ]
    )
    limits = np.concatenate([[limit], wanted_SA.ravel(), -wanted_SA.ravel()])
    sums = np.concatenate([np.ones(count), np.zeros(size)])[None]
    return float(linprog(objective, A_ub=upper, b_ub=limits, A_eq=sums, b_eq=[1.0]).fun)


@pytest.mark.parametrize("departure_weight", [0.0, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_least_divergence_is_that_of_enumerated_policies(seed: int, departure_weight: float) -> None:
    mdp, human_SA = random_mdp(seed, states=4, actions=2), rewards(seed)
    costs_SA = np.random.default_rng(seed + 50).uniform(size=(4, 2))
    human = optimal(mdp, human_SA, GAMMA)
    wanted = float((occupancy(mdp, human.policy, GAMMA) * costs_SA).sum())
    least = -float(mdp.initial_S @ optimal(mdp, -costs_SA, GAMMA).values)
    limit = 0.5 * (least + wanted)
    found = least_divergence(mdp, human_SA, costs_SA, limit, GAMMA, departure_weight=departure_weight)
    assert found.divergence == pytest.approx(enumerated(mdp, human_SA, costs_SA, limit, departure_weight), abs=1e-7)
    visits_SA = occupancy(mdp, found.policy_SA, GAMMA)
    assert float((visits_SA * costs_SA).sum()) <= limit + 1e-7
    assert regret(mdp, human_SA, GAMMA, found.policy_SA) == pytest.approx(found.regret, abs=1e-7)


def test_the_price_is_what_a_looser_limit_would_save() -> None:
    mdp, human_SA = random_mdp(2, states=4, actions=2), rewards(2)
    costs_SA = np.random.default_rng(52).uniform(size=(4, 2))
    least = -float(mdp.initial_S @ optimal(mdp, -costs_SA, GAMMA).values)
    limit = least + 0.05
    tight, loose = (least_divergence(mdp, human_SA, costs_SA, at, GAMMA) for at in (limit, limit + 1e-4))
    assert tight.price == pytest.approx((tight.divergence - loose.divergence) / 1e-4, rel=1e-3, abs=1e-6)
    free = least_divergence(mdp, human_SA, costs_SA, 1e3, GAMMA, departure_weight=1.0)
    assert (free.divergence, free.price) == (pytest.approx(0.0, abs=1e-9), pytest.approx(0.0, abs=1e-9))


def test_the_agents_own_return_can_be_kept_too() -> None:
    mdp, human_SA, agent_SA = random_mdp(4, states=4, actions=2), rewards(4), rewards(5)
    nothing_SA = np.zeros((4, 2))
    most = float(mdp.initial_S @ optimal(mdp, agent_SA, GAMMA).values)
    found = least_divergence(mdp, human_SA, nothing_SA, 1.0, GAMMA, agent_SA=agent_SA, least_agent_return=most - 1e-6)
    agent = optimal(mdp, agent_SA, GAMMA)
    assert found.regret == pytest.approx(regret(mdp, human_SA, GAMMA, agent.policy), abs=1e-4)


def test_limits_that_no_policy_keeps_are_refused() -> None:
    mdp, human_SA = random_mdp(1, states=4, actions=2), rewards(1)
    with pytest.raises(DataError, match=r"no policy keeps the cost within 0\.01: the least that can be had is"):
        least_divergence(mdp, human_SA, np.ones((4, 2)), 0.01, GAMMA)
    with pytest.raises(ConfigError, match="departure_weight must be 0 or more"):
        least_divergence(mdp, human_SA, np.ones((4, 2)), 9.0, GAMMA, departure_weight=-1.0)
