"""What PPO and GRPO have in common: the settings of training on answers that the policy itself writes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, model_validator
from torch import Tensor

from raysafe.alignment.companions import check_adapters, check_companion, check_policy, check_reward_context
from raysafe.alignment.experience import Samples
from raysafe.alignment.job import ModelJob
from raysafe.alignment.losses import KLKind
from raysafe.alignment.placing import Placement, pools_of
from raysafe.alignment.policy_gradient import PolicyLossConfig
from raysafe.alignment.rewards import (
    Combine,
    EnsembleOptions,
    Sees,
    check_members,
    check_source,
    is_model,
    weighted,
)
from raysafe.alignment.watch import WatchConfig
from raysafe.models.generate.load import EngineKind
from raysafe.models.lora import LoraConfig
from raysafe.runtime.learner import OptimConfig
from raysafe.runtime.placement import Pool
from raysafe.runtime.run import Run
from raysafe.runtime.supervisor import preflight_pools

if TYPE_CHECKING:
    from raysafe.alignment.trainer import OnlineLearner
    from raysafe.runtime.report import Section

Average = Literal["token", "sequence", "constant"]


class OnlineOptimConfig(OptimConfig):
    """As in fit(), but at one learning rate from the first step on: how long a run goes is seldom known before."""

    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="Learning rate after the warm-up."
    )
    warmup_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of the steps in which the learning rate rises.",
    )


class OnlineJob(ModelJob):
    """A job whose policy learns from rewards of its own answers."""

    lora: LoraConfig | None = Field(default=None, description="Train low-rank adapters instead of all weights.")
    reference: str | None = Field(default=None, description="Reference policy; the starting policy by default.")
    rewards: tuple[str, ...] = Field(
        min_length=1,
        description="Reward models, module:function, check:exact|contains|number|regex, judge:SPEC, feedback:FILE.",
    )
    reward_weights: tuple[float, ...] = Field(default=(), description="A weight for each reward; 1 by default.")
    reward_sees: Sees = Field(
        default="conversation", description="Reward models read the prompt with the answer, or the answer alone."
    )
    ensemble: Combine = Field(
        default="mean", description="Of a reward ensemble: mean, minimum, or penalised (mean - penalty * deviation)."
    )
    ensemble_penalty: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Penalty of disagreement.")
    gold: str | None = Field(default=None, description="A reward that is watched and never trained on.")
    length_penalty: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Taken off the reward of an answer of max_tokens tokens."
    )
    mask_overlong: bool = Field(default=False, description="Learn nothing from answers that were cut at max_tokens.")

    steps: int = Field(default=100, ge=1, description="Batches of answers to learn from.")
    prompts_per_step: int = Field(
        default=32, ge=1, description="Prompts of a batch; the last of a pass over all prompts may have fewer."
    )
    answers_per_prompt: int = Field(default=1, ge=1, description="Answers that are written to each of them.")
    max_tokens: int = Field(default=64, ge=1, description="Longest answer, in tokens.")
    stop: tuple[str, ...] = Field(default=(), description="Strings that end an answer, besides the model's own marks.")
    epochs: int = Field(default=1, ge=1, description="Passes over each batch.")
    minibatches: int = Field(default=1, ge=1, description="Optimiser steps per pass, with equal shares of tokens.")
    average: Average = Field(
        default="token",
        description="The loss is divided by tokens, by answers (each the mean of its own), or by answers x max_tokens.",
    )
    loss: PolicyLossConfig = PolicyLossConfig()
    training: OnlineOptimConfig = OnlineOptimConfig()

    kl_coefficient: float = Field(
        default=0.05,
        ge=0,
        allow_inf_nan=False,
        description="Weight of the KL to the reference; too small is over-optimisation.",
    )
    kl_in: Literal["reward", "loss"] = Field(default="reward", description="Where the KL counts.")
    kl_kind: KLKind = Field(default="k1", description="Its estimate; k1 has no gradient in the loss.")
    kl_target: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Adapt the weight so that KL is this, in nats a token."
    )
    kl_horizon: int = Field(default=10_000, ge=1, description="Answers over which the weight adapts.")
    reference_refresh: int | None = Field(
        default=None, ge=1, description="Make the policy its own reference again every so many steps."
    )

    engine: EngineKind = Field(default="transformers", description="What writes the answers.")
    straggler_factor: float | None = Field(
        default=4.0, gt=1, description="Give a chunk that takes so many medians to an idle engine too; none to wait."
    )
    chunks_per_engine: int = Field(default=1, ge=1, description="Parts of a batch per rollout engine.")
    overlap: bool = Field(
        default=False, description="Write the next batch while this one is learned from: one step off the policy."
    )

    validate_every: int = Field(default=10, ge=1, description="Steps between answers to the validation prompts.")
    validation_prompts: int = Field(default=256, ge=1, description="Validation prompts that are answered, at most.")
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="Steps between checkpoints; one a validation anyway."
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="Latest checkpoints kept, besides the best.")
    monitor: Literal["reward", "gold"] = Field(
        default="reward", description="Validation figure that chooses the best checkpoint."
    )
    watch: WatchConfig = WatchConfig()

    placement: Placement = Field(
        default="colocated",
        description="All roles in the same processes, each role in its own, or mixed as pools say (a --config file).",
    )
    pools: dict[str, Pool] = Field(
        default_factory=dict,
        description="Processes by name: 'all', a role, or roles joined by + (mixed). Default: workers processes each.",
    )
    workers: int = Field(default=1, ge=1, description="Processes of each pool that pools doesn't name.")
    cpus_per_worker: float = Field(default=1, gt=0, allow_inf_nan=False, description="CPUs of each such process.")
    gpus_per_worker: float = Field(
        default=0, ge=0, le=1, allow_inf_nan=False, description="Its GPU, or a share of one: 0.25 lets four have one."
    )
    deadline_s: float = Field(
        default=1800,
        gt=0,
        allow_inf_nan=False,
        description="A process that takes longer over one call is taken to hang.",
    )
    max_failures: int = Field(
        default=3, ge=0, description="Times that lost processes are replaced before the run fails."
    )

    @model_validator(mode="after")
    def _rewarded(self) -> Self:
        weighted(self.rewards, self.reward_weights)
        if self.monitor == "gold" and self.gold is None:
            raise ValueError("monitor 'gold' needs a gold score: set gold, or monitor the reward")
        if self.watch.stop_on_parting and self.gold is None:
            raise ValueError("watch.stop_on_parting compares with a gold score: set gold, or leave it out")
        return self

    @model_validator(mode="after")
    def _validated(self) -> Self:
        if not self.validation_fraction:
            raise ValueError("validation_fraction must be above 0: the best checkpoint is chosen on those prompts")
        return self

    @model_validator(mode="after")
    def _kl_has_an_effect(self) -> Self:
        if self.kl_in == "loss" and self.kl_kind == "k1":
            raise ValueError(
                "kl_kind k1 in the loss has a gradient of zero expectation: choose k2 or k3, or kl_in reward"
            )
        if self.kl_target is not None and not self.kl_coefficient:
            raise ValueError("kl_target adapts kl_coefficient, which is 0 and stays so: give it a positive start")
        batch = self.prompts_per_step * self.answers_per_prompt
        if self.kl_target is not None and self.kl_horizon < batch:
            raise ValueError(
                f"kl_horizon {self.kl_horizon} is shorter than a batch of {batch} answers, after which kl_coefficient "
                f"would jump and may turn negative: set it to {batch} or more"
            )
        return self

    @model_validator(mode="after")
    def _placed(self) -> Self:
        pools = pools_of(self.placement, self.pools, self.roles, self._pool)
        if self.overlap and any("rollout" in roles and len(roles) > 1 for roles in pools.values()):
            raise ValueError(
                "overlap needs the rollout engines in a pool of their own: set placement to split or mixed"
            )
        if self.overlap and self.loss.importance_cap is None:
            raise ValueError("overlap learns from an older policy's answers: set loss.importance_cap (2 is usual)")
        return self

    @property
    def roles(self) -> tuple[str, ...]:
        """What the job's processes host."""
        return ("policy", "rollout", "reference", "reward")

    @property
    def trained(self) -> tuple[str, ...]:
        """Roles that have weights to lose."""
        return ("policy",)

    @abstractmethod
    def learners(self) -> dict[str, OnlineLearner]:
        """A learner for each trained role."""

    @abstractmethod
    def optim(self, role: str) -> OptimConfig:
        """How a trained role takes its steps."""

    @abstractmethod
    def advantages(self, samples: Samples, kl_coefficient: float) -> None:
        """Add what the learners need to the figures of the samples' tokens: advantages (and returns)."""

    def scores_C(self, samples: Samples) -> Tensor:
        """Rewards of the answers less the length penalty, (C,) in float64."""
        lengths_C = samples.lengths_C / self.max_tokens
        return torch.from_numpy(samples.scores["reward"] - self.length_penalty * lengths_C)

    def experience(self, samples: Samples, kl_coefficient: float, *, old: bool) -> pa.Table:
        """Rows for the trainers; old: whether they carry the policy's log-probabilities from before the update."""
        lengths_C = samples.lengths_C
        counts_C = samples.complete_C if self.mask_overlong else np.ones(len(lengths_C), dtype=bool)
        units_C = {
            "token": lengths_C,
            "sequence": np.ones_like(lengths_C),
            "constant": np.full_like(lengths_C, self.max_tokens),
        }[self.average]
        weights_C = counts_C / (np.maximum(lengths_C, 1) if self.average == "sequence" else 1.0)
        columns = {
            "rollout_logps": samples.rollout_logps_N,
            "advantages": samples.tokens["advantages"],
            "weights": np.repeat(weights_C, lengths_C),
        }
        columns |= {name: samples.tokens[name] for name in ("returns", "values") if name in samples.tokens}
        if old:
            columns["old_logps"] = samples.tokens["old_logps"]
        if self.kl_in == "loss":
            columns["ref_logps"] = samples.tokens["ref_logps"]
            columns["kl_coefficient"] = np.full(len(samples.rollout_logps_N), kl_coefficient)
        return samples.table(units_C * counts_C, **columns)

    @property
    def _pool(self) -> Pool:
        return Pool(workers=self.workers, cpus=self.cpus_per_worker, gpus=self.gpus_per_worker)

    @property
    def role_pools(self) -> dict[str, tuple[Pool, tuple[str, ...]]]:
        """Pools by name, with the roles that they host."""
        hosted = pools_of(self.placement, self.pools, self.roles, self._pool)
        return {name: (self.pools.get(name, self._pool), roles) for name, roles in hosted.items()}

    @property
    def ensemble_options(self) -> EnsembleOptions:
        return EnsembleOptions(self.ensemble, self.ensemble_penalty, self.reward_sees, self.chat_template)

    def check_model(self) -> None:
        super().check_model()
        check_policy(self.model, "model")
        if self.lora is not None:
            check_adapters(self.model, self.lora)
        tokenizer = self.tokenizer or self.model
        if self.reference is not None:
            check_policy(self.reference, "reference")
            check_companion("reference", self.reference, tokenizer, self.longest)
        for source in self.rewards:
            check_source(source)
            if is_model(source):
                check_members(source, self.ensemble)
        if self.gold is not None:
            check_source(self.gold, "gold")
        for source in (*self.rewards, self.gold):
            if source is not None and is_model(source):
                check_reward_context(
                    source, tokenizer, self.reward_sees, longest=self.longest, max_tokens=self.max_tokens
                )

    def check_room(self) -> None:
        preflight_pools(self.address, {name: pool for name, (pool, _) in self.role_pools.items()})

    def work(self, run: Run) -> None:
        from raysafe.alignment.online_data import read_prompts
        from raysafe.alignment.online_loop import train

        train(self, run, read_prompts(self, run))

    def sections(self, run: Run) -> list[Section]:
        from raysafe.alignment.online_report import sections

        return sections(run)
