"""The policy's learner in online training: PPO's clipped loss, KL in the loss, entropy bonus, importance correction."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from pydantic import Field
from torch import Tensor, nn

from raysafe.alignment.experience import ExperienceBatch, collate
from raysafe.alignment.job import PolicyLearner, PolicySettings
from raysafe.alignment.losses import KLKind, importance_weights, kl_estimate, ppo_policy_loss
from raysafe.alignment.trainer import OnlineLearner
from raysafe.config import Config
from raysafe.models.logprobs import token_logprobs, token_logprobs_and_entropy
from raysafe.runtime.gradient import Metrics


class PolicyLossConfig(Config):
    """The loss of a token that the policy drew."""

    clip_low: float = Field(default=0.2, gt=0, lt=1, description="The ratio to the old policy stays above 1 - this.")
    clip_high: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="It stays below 1 + this; clip_low by default."
    )
    dual_clip: float | None = Field(
        default=None,
        gt=1,
        allow_inf_nan=False,
        description="Bound on the loss of bad tokens, in advantages (3 is usual).",
    )
    entropy_coefficient: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Weight of the entropy bonus."
    )
    importance_cap: float | None = Field(
        default=None,
        ge=1,
        allow_inf_nan=False,
        description="Correct for the engine's own log-probabilities by weights of at most this (2 is usual).",
    )
    importance_of: Literal["token", "answer"] = Field(
        default="token",
        description="Ratios that correct: each token's (steady, biased where an answer's rest differs) or its answer's "
        "(unbiased below the cap, noisy where answers are long).",
    )


class PolicyGradientLearner(PolicyLearner, OnlineLearner):
    """Rows carry `advantages`, `weights`, `rollout_logps`; `old_logps` and `ref_logps` where they are needed."""

    measures = ("clipped", "mismatch", "entropy")

    def __init__(self, job: PolicySettings, loss: PolicyLossConfig, kl_kind: KLKind | None) -> None:
        """kl_kind: of the KL term in the loss, weighted by the rows' `kl_coefficient`; None for no such term."""
        super().__init__(job)
        self.settings = loss
        self.kl_kind: KLKind | None = kl_kind

    def collate(self, rows: pa.Table) -> ExperienceBatch:
        return collate(rows, self.layout)

    def forward(self, module: nn.Module, batch: ExperienceBatch) -> Tensor:
        """Log-probabilities of the tokens, (N,)."""
        return token_logprobs(module, batch.tokens)

    def loss(self, module: nn.Module, batch: ExperienceBatch) -> tuple[Tensor, Metrics]:
        settings = self.settings
        entropy_N: Tensor | None = None
        if settings.entropy_coefficient:
            logps_N, entropy_N = token_logprobs_and_entropy(module, batch.tokens)
        else:
            logps_N = token_logprobs(module, batch.tokens)
        figures: dict[str, Any] = {name: figure.to(logps_N.dtype) for name, figure in batch.figures.items()}
        weights_N, rollout_N = figures["weights"], figures["rollout_logps"]
        # in the first update from fresh samples the policy itself is the old one
        old_N = figures.get("old_logps", logps_N.detach())
        loss_N, clipped_N = ppo_policy_loss(
            logps_N,
            old_N,
            figures["advantages"],
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            dual_clip=settings.dual_clip,
        )
        if settings.importance_cap is not None:
            answer_N = batch.tokens.completion_N if settings.importance_of == "answer" else None
            loss_N = loss_N * importance_weights(old_N, rollout_N, most=settings.importance_cap, answer_N=answer_N)
        if self.kl_kind is not None:
            loss_N = loss_N + figures["kl_coefficient"] * kl_estimate(logps_N, figures["ref_logps"], kind=self.kl_kind)
        tokens = float(batch.tokens.tokens)
        metrics: Metrics = {
            "clipped": (clipped_N.sum(), tokens),
            "mismatch": ((old_N - rollout_N).abs().sum(), tokens),
        }
        if entropy_N is not None:
            loss_N = loss_N - settings.entropy_coefficient * entropy_N
            metrics["entropy"] = (entropy_N.detach().sum(), tokens)
        return (loss_N * weights_N).sum(), metrics
