"""The discriminator of adversarial imitation: which steps are the expert's, and so what a step is worth.

AIRL (Fu, Luo & Levine 2018, section 6): D = exp(f) / (exp(f) + pi(action | state)), f = g + gamma h(next) - h(state).
GAIL (Ho & Ermon 2016): D = sigmoid(f), f = g. A terminal state leads to an absorbing one that has a learned reward of
its own (Kostrikov et al. 2019, section 4.2): without it the mere sign of rewards would say whether to live or to die.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from raysafe.data.trajectories import Trajectory
from raysafe.models.mlp import Activation, Mlp, MlpConfig, ScalarHead
from raysafe.rl.transitions import TransitionShape

Objective = Literal["airl", "gail"]
LEAST_STD = 1e-3


@dataclass(frozen=True)
class Transitions:
    """Steps as the discriminator sees them."""

    steps_NF: Tensor
    """What g depends on (TransitionShape)."""
    obs_ND: Tensor
    next_obs_ND: Tensor
    terminated_N: Tensor
    """1 where the next state is terminal, else 0."""
    absorbed: float
    """Share of an episode's time, up to the horizon, that is spent in the absorbing state: a mean over episodes."""

    def __len__(self) -> int:
        return len(self.steps_NF)

    def take(self, rows: Tensor) -> Transitions:
        return Transitions(
            self.steps_NF[rows], self.obs_ND[rows], self.next_obs_ND[rows], self.terminated_N[rows], self.absorbed
        )


class Figures(NamedTuple):
    """How a fit went: the loss, and how often expert's and agent's steps were told for what they are."""

    loss: float
    expert_accuracy: float
    agent_accuracy: float


class Discriminator(nn.Module):
    """g and h are small networks over observations that are normalised by the expert's."""

    def __init__(
        self,
        shape: TransitionShape,
        expert: Transitions,
        *,
        objective: Objective,
        gamma: float,
        hidden: Sequence[int],
        activation: Activation,
        shaped: bool,
    ) -> None:
        super().__init__()
        self.objective, self.gamma = objective, gamma
        self.g = _network(expert.steps_NF, hidden, activation)
        self.h = _network(expert.obs_ND, hidden, activation) if shaped else None
        self.absorbing = nn.Parameter(torch.zeros(()))
        """f of the absorbing state."""

    def f(self, steps: Transitions) -> Tensor:
        """(N,): the logit, for AIRL before log pi is taken off."""
        f_N = self.g(steps.steps_NF)[:, 0]
        if self.h is not None:
            next_N = self.h(steps.next_obs_ND)[:, 0]
            # beyond a terminal state lies the absorbing one; its potential is 0
            f_N = f_N + self.gamma * (1 - steps.terminated_N) * next_N - self.h(steps.obs_ND)[:, 0]
        return f_N

    def logits(self, steps: Transitions, logps_N: Tensor) -> Tensor:
        """(N,): log D - log(1 - D); logps_N: log pi(action | state) of the current policy, which GAIL doesn't need."""
        return self.f(steps) - logps_N if self.objective == "airl" else self.f(steps)

    def loss(self, expert: Transitions, expert_logps: Tensor, agent: Transitions, agent_logps: Tensor) -> Tensor:
        """Binary cross-entropy; the absorbing state counts by the share of time that each side spends in it."""
        sides = []
        for steps, logps_N, sign in ((expert, expert_logps, -1.0), (agent, agent_logps, 1.0)):
            # of sign * logits: -log D of the expert, -log(1 - D) of the agent
            moving = softplus(sign * self.logits(steps, logps_N)).mean()
            still = softplus(sign * self.absorbing)
            sides.append((1 - steps.absorbed) * moving + steps.absorbed * still)
        return sides[0] + sides[1]

    @torch.no_grad()
    def rewards(self, steps: Transitions, logps_N: Tensor) -> NDArray[np.float64]:
        """(N,) for the policy: log D - log(1 - D) (AIRL), -log(1 - D) (GAIL), times 1 - gamma, so that returns are of
        the size of one reward; a step that ends the episode earns all that the absorbing state will ever give."""
        logits_N, absorbing = self.logits(steps, logps_N), self.absorbing
        if self.objective == "gail":
            logits_N, absorbing = softplus(logits_N), softplus(absorbing)
        earned_N = (1 - self.gamma) * logits_N + self.gamma * steps.terminated_N * absorbing
        return earned_N.double().numpy()

    @torch.no_grad()
    def figures(self, expert: Transitions, expert_logps: Tensor, agent: Transitions, agent_logps: Tensor) -> Figures:
        loss = self.loss(expert, expert_logps, agent, agent_logps)
        right_expert = (self.logits(expert, expert_logps) > 0).float().mean()
        right_agent = (self.logits(agent, agent_logps) < 0).float().mean()
        return Figures(float(loss), float(right_expert), float(right_agent))


def transitions_of(
    trajectories: Sequence[Trajectory], shape: TransitionShape, *, horizon: int | None, gamma: float
) -> Transitions:
    """All steps of all trajectories. horizon: an episode's limit, up to which a terminal state lasts.

    Without one it lasts as long as the discount lets it count, 1 / (1 - gamma) steps.
    """
    obs = [one.obs_T1D for one in trajectories]
    assert all(seen is not None for seen in obs)
    terminated = [np.append(np.zeros(len(one) - 1), float(one.terminated)) for one in trajectories]
    still = moving = 0.0
    for one in trajectories:
        moving += len(one)
        if one.terminated:
            still += max(0, horizon - len(one)) if horizon else gamma / (1 - gamma)
    return Transitions(
        torch.from_numpy(np.concatenate([shape.encode_trajectory(one) for one in trajectories])),
        torch.from_numpy(np.concatenate([seen[:-1] for seen in obs if seen is not None])),
        torch.from_numpy(np.concatenate([seen[1:] for seen in obs if seen is not None])),
        torch.from_numpy(np.concatenate(terminated).astype(np.float32)),
        still / (still + moving),
    )


def _network(inputs_ND: Tensor, hidden: Sequence[int], activation: Activation) -> Mlp:
    width = inputs_ND.shape[1]
    network = Mlp(
        MlpConfig(inputs=width, hidden=tuple(hidden), activation=activation, normalise=True, head=ScalarHead())
    )
    std_D = inputs_ND.std(dim=0, correction=0)
    network.observation.get_buffer("mean").copy_(inputs_ND.mean(dim=0))
    network.observation.get_buffer("std").copy_(torch.where(std_D > LEAST_STD, std_D, 1.0))
    return network
