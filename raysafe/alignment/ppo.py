"""RLHF by PPO with a critic (Ziegler et al. 2019; Stiennon et al. 2020; Ouyang et al. 2022).

Each token is an action; the score comes at the last one, the KL to the reference at every one; the critic's values make
advantages of them by GAE; policy and critic then take clipped steps.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from raysafe.alignment.advantages import gae, token_rewards, whiten
from raysafe.alignment.companions import check_companion
from raysafe.alignment.critic import CriticLearner
from raysafe.alignment.experience import Samples
from raysafe.alignment.losses import kl_estimate
from raysafe.alignment.online import OnlineJob
from raysafe.alignment.policy_gradient import PolicyGradientLearner
from raysafe.alignment.trainer import OnlineLearner
from raysafe.runtime.learner import OptimConfig


class PPOJob(OnlineJob):
    """Train a policy on rewards of its own answers, with a critic: reinforcement learning from human feedback."""

    job: ClassVar[str] = "ppo"

    prompts_per_step: int = Field(
        default=64, ge=1, description="Prompts of a batch; the last of a pass over all prompts may have fewer."
    )
    minibatches: int = Field(default=4, ge=1, description="Optimiser steps per pass, with equal shares of tokens.")
    gamma: float = Field(default=1.0, ge=0, le=1, description="Discount from token to token.")
    lam: float = Field(default=0.95, ge=0, le=1, description="GAE's lambda.")
    whiten: bool = Field(default=True, description="Bring a batch's advantages to mean 0 and deviation 1.")
    value_clip: float | None = Field(
        default=0.2, gt=0, allow_inf_nan=False, description="A value moves no further in one batch; none to let it."
    )
    critic: str | None = Field(
        default=None, description="Whose body the critic starts from: a policy or reward model; the policy by default."
    )
    critic_learning_rate: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="training.learning_rate by default."
    )

    @property
    def roles(self) -> tuple[str, ...]:
        return ("policy", "critic", "rollout", "reference", "reward")

    @property
    def trained(self) -> tuple[str, ...]:
        return ("policy", "critic")

    def check_model(self) -> None:
        super().check_model()
        if self.critic is not None:
            check_companion("critic", self.critic, self.tokenizer or self.model, self.longest)

    def learners(self) -> dict[str, OnlineLearner]:
        return {
            "policy": PolicyGradientLearner(self, self.loss, self.kl_kind if self.kl_in == "loss" else None),
            "critic": CriticLearner(self.critic or self.model, self.layout, value_clip=self.value_clip, seed=self.seed),
        }

    def optim(self, role: str) -> OptimConfig:
        if role == "critic" and self.critic_learning_rate is not None:
            return self.training.model_copy(update={"learning_rate": self.critic_learning_rate})
        return self.training

    def advantages(self, samples: Samples, kl_coefficient: float) -> None:
        mask_CT = samples.mask_CT
        policy_CT = samples.padded(samples.tokens["old_logps"])
        kl_CT = kl_estimate(policy_CT, samples.padded(samples.tokens["ref_logps"]), kind=self.kl_kind)
        in_reward = kl_coefficient if self.kl_in == "reward" else 0.0
        rewards_CT = token_rewards(self.scores_C(samples), kl_CT, mask_CT, kl_coefficient=in_reward)
        values_CT = samples.padded(samples.tokens["values"])
        advantages_CT, returns_CT = gae(rewards_CT, values_CT, mask_CT, gamma=self.gamma, lam=self.lam)
        samples.tokens["returns"] = samples.flat(returns_CT)
        if self.whiten:
            advantages_CT = whiten(advantages_CT, mask_CT)
        samples.tokens["advantages"] = samples.flat(advantages_CT)
