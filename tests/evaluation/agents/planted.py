"""Agents that are known to do as they should, or not: networks that were taught a policy state by state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from raysafe.models.mlp import DiscreteHead, Mlp, MlpConfig
from raysafe.rl.envs.lookup import lookup
from raysafe.rl.envs.optimum import Of, optimum
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.table import table
from raysafe.rl.policy import BoxSpace, DiscreteSpace, Policy, PolicyCard, save_policy


def best(problem: Problem, of: Of = "reward") -> np.ndarray:
    """(S, A): what is best at the start of an episode, discounted so that it is best later too."""
    return optimum(problem, of, gamma=0.95).policy_TSA[0]


def taught(folder: Path, *lessons: tuple[Problem, np.ndarray]) -> str:
    """A network on flat observations that does what each lesson (a problem, and a policy over its states) says."""
    seen, wanted = [], []
    for problem, policy_SA in lessons:
        goes_on_S = ~table(problem).terminal_S
        seen.append(lookup(problem, "flat").observations[goes_on_S])
        wanted.append(policy_SA[goes_on_S].argmax(axis=1))
    obs_BD, actions_B = torch.tensor(np.concatenate(seen)), torch.tensor(np.concatenate(wanted))
    torch.manual_seed(0)
    network = Mlp(MlpConfig(inputs=obs_BD.shape[1], hidden=(64,), head=DiscreteHead(actions=5)))
    steps = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        loss = torch.nn.functional.cross_entropy(network(obs_BD), actions_B)
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert (network(obs_BD).argmax(1) == actions_B).all(), "the lessons contradict each other, or are too many"
    width = obs_BD.shape[1]
    card = PolicyCard(
        env="raysafe/planted-v0",
        algorithm="lessons",
        observations=BoxSpace(shape=(width,), low=(0.0,) * width, high=(1.0,) * width),
        actions=DiscreteSpace(n=5),
        distribution="categorical",
    )
    save_policy(Policy(network, card), folder)
    return str(folder)
