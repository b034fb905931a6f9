"""Policy gradients without a critic: an answer's baseline is the other answers to its prompt, or the whole batch.

grpo (Shao et al. 2024), dr_grpo (Liu et al. 2025), rloo (Ahmadian et al. 2024), reinforce_plus_plus (Hu 2025).
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from raysafe.alignment.advantages import gae, group_advantages, token_rewards, whiten
from raysafe.alignment.experience import Samples
from raysafe.alignment.losses import KLKind, kl_estimate
from raysafe.alignment.online import OnlineJob
from raysafe.alignment.policy_gradient import PolicyGradientLearner
from raysafe.alignment.trainer import OnlineLearner
from raysafe.runtime.learner import OptimConfig


class GRPOJob(OnlineJob):
    """Train a policy on rewards of its own answers, several to a prompt, without a critic."""

    job: ClassVar[str] = "grpo"

    kind: Literal["grpo", "dr_grpo", "rloo", "reinforce_plus_plus"] = Field(
        default="grpo",
        description="Baseline: the group's mean, over its deviation (grpo) or not (dr_grpo); the mean of the group's "
        "others (rloo); the batch's mean, token by token (reinforce_plus_plus).",
    )
    answers_per_prompt: int = Field(default=8, ge=1, description="Answers that are written to each prompt.")
    kl_in: Literal["reward", "loss"] = Field(default="loss", description="Where the KL counts.")
    kl_kind: KLKind = Field(default="k3", description="Its estimate; k1 has no gradient in the loss.")

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if self.kind != "reinforce_plus_plus" and self.answers_per_prompt < 2:
            raise ValueError(
                f"{self.kind} compares answers to one prompt: set answers_per_prompt to 2 or more, "
                "or kind to reinforce_plus_plus"
            )
        return self

    def learners(self) -> dict[str, OnlineLearner]:
        return {"policy": PolicyGradientLearner(self, self.loss, self.kl_kind if self.kl_in == "loss" else None)}

    def optim(self, role: str) -> OptimConfig:
        return self.training

    def advantages(self, samples: Samples, kl_coefficient: float) -> None:
        scores_C = self.scores_C(samples)
        mask_CT = samples.mask_CT
        in_reward = kl_coefficient if self.kl_in == "reward" else 0.0
        old_N = samples.tokens.get("old_logps", samples.rollout_logps_N)
        kl_CT = kl_estimate(samples.padded(old_N), samples.padded(samples.tokens["ref_logps"]), kind=self.kl_kind)
        if self.kind == "reinforce_plus_plus":
            rewards_CT = token_rewards(scores_C, kl_CT, mask_CT, kl_coefficient=in_reward)
            # without values GAE at lambda 1 is the sum of the rewards still to come
            advantages_CT, _ = gae(rewards_CT, torch.zeros_like(rewards_CT), mask_CT, gamma=1.0, lam=1.0)
            advantages_CT = whiten(advantages_CT, mask_CT)
        else:
            rewards_C = scores_C - in_reward * (kl_CT * mask_CT).sum(1)
            groups_C = torch.from_numpy(samples.group_C)
            advantages_CT = group_advantages(rewards_C, groups_C, kind=self.kind)[:, None] * mask_CT
        samples.tokens["advantages"] = samples.flat(advantages_CT)
        if self.kind in ("grpo", "rloo", "dr_grpo"):
            samples.scores["flat_groups"] = flat_groups(samples)


def flat_groups(samples: Samples) -> np.ndarray:
    """1 for an answer whose group all scored alike, and so teaches nothing, (C,)."""
    reward_C, group_C = samples.scores["reward"], samples.group_C
    spread_G = np.zeros(group_C.max() + 1)
    np.maximum.at(spread_G, group_C, np.abs(reward_C - reward_C[np.searchsorted(group_C, group_C)]))
    return (spread_G[group_C] == 0).astype(np.float64)
