"""True returns: the same however many episodes are played side by side, and apart from what they are not."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch

from raysafe.irl.episodes import SEED, returns
from raysafe.models.mlp import DiscreteHead, Mlp, MlpConfig
from raysafe.rl.environment import EnvMaker
from raysafe.rl.policy import Policy

CARTPOLE = EnvMaker("CartPole-v1")


def leaning(weight: float) -> Policy:
    """Pushes to the side that the pole leans and turns to, where weight is above 0."""
    network = Mlp(MlpConfig(inputs=4, head=DiscreteHead(actions=2)))
    with torch.no_grad():
        network.layers[0].weight.copy_(weight * torch.tensor([[0.0, 0.0, -1.0, -1.0], [0.0, 0.0, 1.0, 1.0]]))
        network.layers[0].bias.zero_()
    return Policy(network)


def test_a_return_is_that_of_the_episode_played_by_hand() -> None:
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=SEED + 7 * 3 + 2)
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(int(obs[2] + obs[3] > 0))
        total, over = total + float(reward), terminated or truncated
    assert returns(leaning(1.0), CARTPOLE, 3, seed=7)[2] == total


def test_returns_do_not_depend_on_how_many_episodes_are_played_at_once() -> None:
    alone = returns(leaning(1.0), CARTPOLE, 5, seed=1, side_by_side=1)
    np.testing.assert_array_equal(returns(leaning(1.0), CARTPOLE, 5, seed=1, side_by_side=3), alone)


def test_a_good_policy_earns_more_than_its_opposite() -> None:
    assert returns(leaning(1.0), CARTPOLE, 5, seed=0).mean() > 5 * returns(leaning(-1.0), CARTPOLE, 5, seed=0).mean()
