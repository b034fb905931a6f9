"""Behavioural cloning (Pomerleau 1991): a policy that does what the demonstrations do, by maximum likelihood.

The baseline of inverse reinforcement learning: it learns no reward, and what it gets wrong adds up over an episode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.settings import CloningSettings
from raysafe.models.mlp import DiscreteHead, GaussianHead, Mlp, MlpConfig
from raysafe.rl.mdp import Floats
from raysafe.rl.policy import LOG_STD_LIMIT, DiscreteSpace, Policy, PolicyCard, save_policy
from raysafe.runtime.learner import Learner

PSEUDO_COUNTS = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LEAST_STD = 1e-3
"""Of an observation's feature: one that never varied must not be blown up when it does."""


@dataclass(frozen=True)
class Steps:
    """A batch of observations and what was done."""

    obs_BD: Tensor
    actions_B: Tensor
    """(B,) numbers, or (B, K) vectors."""

    @property
    def weight(self) -> float:
        return float(len(self.obs_BD))

    def to(self, device: torch.device) -> Steps:
        return Steps(self.obs_BD.to(device), self.actions_B.to(device))


class ClonedPolicy(nn.Module):
    """A policy's network, whose forward pass gives the distribution rather than the action."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.network = Mlp(config)

    def forward(self, obs_BD: Tensor) -> Tensor:
        """(B, A) logits, or (B, 2K): means, then the logarithms of standard deviations."""
        return self.network.raw(obs_BD)


class CloningLearner(Learner):
    """Negative log-likelihood of the demonstrated actions."""

    measures: ClassVar[tuple[str, ...]] = ("log_likelihood", "accuracy", "squared_error")

    def __init__(self, settings: CloningSettings, card: PolicyCard, train: pa.Table) -> None:
        """card: of the policy to be; train: what observations are normalised over, a table of `step_rows`.

        Raises DataError where the demonstrations aren't of the card's environment.
        """
        obs_ND = _matrix(train["observation"])
        self.card, self.head = card, head_of(card)
        if obs_ND.shape[1] != card.observations.width:
            raise DataError(
                f"an observation of the demonstrations has {obs_ND.shape[1]} numbers, one of {card.env} "
                f"{card.observations.width}: name the environment that they were made in"
            )
        _check_actions(train["action"], self.head, card.env)
        self.mean_D, self.std_D = obs_ND.mean(axis=0), obs_ND.std(axis=0)
        self.std_D = np.where(self.std_D > LEAST_STD, self.std_D, 1.0)
        self.shape = MlpConfig(
            inputs=obs_ND.shape[1],
            hidden=settings.hidden,
            activation=settings.activation,
            normalise=True,
            head=self.head,
        )

    def build(self) -> nn.Module:
        module = ClonedPolicy(self.shape)
        module.network.observation.get_buffer("mean").copy_(torch.from_numpy(self.mean_D))
        module.network.observation.get_buffer("std").copy_(torch.from_numpy(self.std_D))
        return module

    def collate(self, rows: pa.Table) -> Steps:
        actions = rows["action"]
        found = actions.to_numpy() if pa.types.is_integer(actions.type) else _matrix(actions)
        return Steps(torch.from_numpy(_matrix(rows["observation"])), torch.from_numpy(np.array(found)))

    def loss(self, module: nn.Module, batch: Steps) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        outputs_BK = module(batch.obs_BD)
        likelihood = log_likelihoods(outputs_BK, batch.actions_B).sum()
        figures: dict[str, tuple[Tensor | float, float]] = {"log_likelihood": (likelihood.detach(), batch.weight)}
        if batch.actions_B.ndim == 1:
            right = (outputs_BK.argmax(dim=1) == batch.actions_B).float().sum()
            return -likelihood, figures | {"accuracy": (right, batch.weight)}
        mean_BK = outputs_BK.detach()[:, : batch.actions_B.shape[1]]
        error = (mean_BK - batch.actions_B).square().sum()
        return -likelihood, figures | {"squared_error": (error, batch.weight)}

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, ClonedPolicy)
        save_policy(Policy(module.network, self.card), folder)


def log_likelihoods(outputs_BK: Tensor, actions_B: Tensor) -> Tensor:
    """(B,) in nats: of a categorical over logits, or of a Gaussian with independent parts (a density)."""
    if actions_B.ndim == 1:
        return outputs_BK.log_softmax(dim=1).gather(1, actions_B.long()[:, None])[:, 0]
    mean_BK, log_std_BK = outputs_BK.chunk(2, dim=1)
    log_std_BK = log_std_BK.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
    scaled_BK = (actions_B - mean_BK) * torch.exp(-log_std_BK)
    return -(0.5 * scaled_BK.square() + log_std_BK + 0.5 * math.log(2 * math.pi)).sum(dim=1)


def step_rows(trajectories: Sequence[Trajectory]) -> pa.Table:
    """One row a step: observation, action, and the `length` 1 that fit() counts; raises DataError without any."""
    if any(one.obs_T1D is None for one in trajectories):
        raise DataError("behavioural cloning of a network needs observations: the demonstrations have states alone")
    obs_ND = np.concatenate([one.obs_T1D[:-1] for one in trajectories if one.obs_T1D is not None])
    actions_N = np.concatenate([one.actions_T for one in trajectories])
    actions = pa.array(actions_N) if actions_N.ndim == 1 else _vectors(actions_N)
    length = pa.array(np.ones(len(actions_N), dtype=np.int64))
    return pa.table({"observation": _vectors(obs_ND), "action": actions, "length": length})


def split(trajectories: Sequence[Trajectory], held_out: float, seed: int) -> tuple[list[Trajectory], list[Trajectory]]:
    """Whole trajectories to learn from and to measure on; steps of one episode are too alike to be in both.

    At least one is on either side, where held_out isn't 0. Raises DataError for too few.
    """
    count = len(trajectories)
    if held_out and count < 2:
        raise DataError("one trajectory can't be split: give more demonstrations, or set validation_fraction to 0")
    kept = min(count - 1, max(1, round(held_out * count))) if held_out else 0
    order = np.random.default_rng(seed).permutation(count)
    return [trajectories[i] for i in sorted(order[kept:])], [trajectories[i] for i in sorted(order[:kept])]


@dataclass(frozen=True)
class TabularClone:
    """Frequencies of actions in each state, with pseudo-counts; `log_likelihood` is a held-out step's mean, in nats."""

    policy_SA: Floats
    pseudo_count: float
    log_likelihood: float | None


def clone_tabular(
    trajectories: Sequence[Trajectory], states: int, actions: int, held_out: Sequence[Trajectory] = ()
) -> TabularClone:
    """The posterior mean under a Dirichlet prior, whose pseudo-count is the one that predicts the held-out best.

    In a state that was never seen every action is as likely. Raises DataError for states and actions that the table
    doesn't have.
    """
    counts_SA, others_SA = (visits(some, states, actions) for some in (trajectories, held_out))
    if not held_out:
        return TabularClone(_smoothed(counts_SA, 1.0), 1.0, None)
    steps = others_SA.sum()
    scores = [float((others_SA * np.log(_smoothed(counts_SA, c))).sum() / steps) for c in PSEUDO_COUNTS]
    best = int(np.argmax(scores))
    return TabularClone(_smoothed(counts_SA, PSEUDO_COUNTS[best]), PSEUDO_COUNTS[best], scores[best])


def visits(trajectories: Sequence[Trajectory], states: int, actions: int) -> Floats:
    """(S, A): how often each action was taken in each state."""
    counts_SA = np.zeros((states, actions))
    for number, one in enumerate(trajectories, start=1):
        if one.states_T1 is None or not one.discrete:
            raise DataError(f"demonstration {number} has no numbered states and actions, which a table needs")
        if one.states_T1.max() >= states or one.actions_T.max() >= actions:
            raise DataError(
                f"demonstration {number} has state {one.states_T1.max()} and action {one.actions_T.max()}; "
                f"the problem has {states} states and {actions} actions, counted from 0"
            )
        np.add.at(counts_SA, (one.states_T1[:-1], one.actions_T), 1.0)
    return counts_SA


def _smoothed(counts_SA: Floats, pseudo_count: float) -> Floats:
    raised_SA = counts_SA + pseudo_count
    return raised_SA / raised_SA.sum(axis=1, keepdims=True)


def head_of(card: PolicyCard) -> DiscreteHead | GaussianHead:
    """What a cloned policy's outputs are."""
    if isinstance(card.actions, DiscreteSpace):
        return DiscreteHead(actions=card.actions.n)
    return GaussianHead(low=card.actions.low, high=card.actions.high, spread=True)


def _check_actions(actions: pa.ChunkedArray, head: DiscreteHead | GaussianHead, env: str) -> None:
    numbered = pa.types.is_integer(actions.type)
    if numbered != isinstance(head, DiscreteHead):
        kinds = ("numbers", "vectors") if numbered else ("vectors", "numbers")
        raise DataError(f"the demonstrations' actions are {kinds[0]}, those of {env} {kinds[1]}")
    if isinstance(head, DiscreteHead):
        if (most := actions.to_numpy().max()) >= head.actions:
            raise DataError(f"the demonstrations have action {most}, {env} has {head.actions}, counted from 0")
    elif actions.type.list_size != len(head.low):
        raise DataError(
            f"an action of the demonstrations has {actions.type.list_size} numbers, one of {env} {len(head.low)}"
        )


def _vectors(array_ND: NDArray[Any]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(array_ND, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, array_ND.shape[1])


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """(N, D); a copy."""
    joined = column.combine_chunks()
    return np.array(joined.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(joined), -1)
