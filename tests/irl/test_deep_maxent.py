"""A network's reward: its gradient against finite differences, and a reward that no linear one expresses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from raysafe.errors import ConfigError, DataError
from raysafe.irl.deep_maxent import DeepMaxEntIRL
from raysafe.irl.maxent import MaxEntIRL
from raysafe.irl.regret import policy_regret
from raysafe.irl.settings import DeepMaxEntSettings
from raysafe.irl.soft import soft_plan
from raysafe.rl.mdp import TabularMDP
from tests.irl.problems import grid, walks

SIDE = 6
PLACES = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), axis=1) / (SIDE - 1) - 0.5
"""(S, 2): row and column, from -0.5 to 0.5."""


def middle() -> tuple[TabularMDP, np.ndarray]:
    """What is good is to be in the middle: no linear function of row and column says so."""
    rewards_S = 3 * np.exp(-20 * (PLACES**2).sum(axis=1))
    return grid(SIDE, slip=0.1), rewards_S[:, None] * np.ones(4)


def test_a_network_finds_what_no_linear_reward_can() -> None:
    mdp, rewards_SA = middle()
    trajectories = walks(mdp, soft_plan(mdp, rewards_SA, 0.9).policy, 20, 30, 0)
    deep = DeepMaxEntIRL(mdp, PLACES, 0.9, settings=DeepMaxEntSettings(iterations=60, learning_rate=0.05))
    linear = MaxEntIRL(mdp, PLACES, 0.9)
    lost = {irl: policy_regret(mdp, rewards_SA, irl.fit(trajectories).table_SA(), 0.9).share for irl in (deep, linear)}
    assert lost[deep] <= 0.05 < 0.3 <= lost[linear]
    assert deep.report.objective < deep.report.first_objective
    assert "60 iterations" in str(deep.report)


@pytest.mark.parametrize("horizon", [None, 8])
@pytest.mark.parametrize("of_actions", [False, True])
def test_one_linear_layer_is_the_linear_method(horizon: int | None, of_actions: bool) -> None:
    mdp = grid(3)
    draw = np.random.default_rng(0)
    features = draw.normal(size=(9, 4, 2) if of_actions else (9, 2))
    rewards_SA = np.broadcast_to((features @ [1.0, -1.0]).reshape(9, -1), (9, 4))
    visits_SA = soft_plan(mdp, rewards_SA, 0.8, horizon).visits(mdp.initial_S)
    settings = DeepMaxEntSettings(hidden=(), iterations=150, learning_rate=0.2, weight_decay=0)
    deep = DeepMaxEntIRL(mdp, features, 0.8, horizon, settings)
    deep.fit_occupancy(visits_SA)
    linear = MaxEntIRL(mdp, features, 0.8, horizon)
    linear.fit_occupancy(visits_SA)
    assert deep.policy() == pytest.approx(linear.policy(), abs=1e-3)
    assert deep.occupancy() == pytest.approx(visits_SA, abs=1e-2)


def test_the_same_seed_gives_the_same_reward_and_leaves_torchs_alone() -> None:
    mdp, rewards_SA = middle()
    trajectories = walks(mdp, soft_plan(mdp, rewards_SA, 0.9).policy, 10, 5, 0)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    found = [
        DeepMaxEntIRL(mdp, PLACES, 0.9, settings=DeepMaxEntSettings(iterations=3, seed=seed)).fit(trajectories)
        for seed in (1, 1, 2)
    ]
    assert torch.rand(1) == expected
    assert (found[0].table_SA() == found[1].table_SA()).all() and (found[0].table_SA() != found[2].table_SA()).any()


def test_what_a_network_cant_read_is_refused() -> None:
    mdp, _ = middle()
    with pytest.raises(DataError, match="reads dense features"):
        DeepMaxEntIRL(mdp, sparse.csr_array(PLACES), 0.9)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="call fit first"):
        DeepMaxEntIRL(mdp, PLACES, 0.9).occupancy()
