"""Reward models: a linear head on a language model, trained on preference pairs.

Bradley-Terry, as in Ouyang et al. 2022, eq. 1; options of the loss are in losses.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn

from raysafe.alignment.job import AlignmentJob
from raysafe.alignment.losses import bradley_terry_loss
from raysafe.alignment.pairs import pairs_batch, prepare_rated_pairs
from raysafe.alignment.prepare import prepare
from raysafe.data.places import name_rows
from raysafe.errors import DataError
from raysafe.models.attention import PACKED, check_packable
from raysafe.models.chat import ChatFormat
from raysafe.models.heads import RewardModel, save_reward_model
from raysafe.models.language import load_tokenizer
from raysafe.models.packing import TokenBatch
from raysafe.runtime.fit import fit
from raysafe.runtime.learner import Learner
from raysafe.runtime.run import Run


class RewardModelJob(AlignmentJob):
    """Train a model that scores answers, from preference pairs or from rated texts."""

    job: ClassVar[str] = "reward-model"

    use_margin: bool = Field(
        default=False, description="Ask for a gap of at least the pair's margin, where the data has one."
    )
    center: float = Field(
        default=0.0, ge=0, description="Weight of (r_chosen + r_rejected)^2, which keeps rewards around zero."
    )
    members: int = Field(
        default=1, ge=1, description="Models in the ensemble; they differ in head and order of the data."
    )
    min_gap: float | None = Field(
        default=None, gt=0, description="For rated texts: pair those whose ratings differ by at least this."
    )
    pairs_per_text: int = Field(default=4, ge=1, description="For rated texts: partners that each text is offered.")

    @property
    def measures(self) -> tuple[str, ...]:
        return RewardLearner.measures

    def work(self, run: Run) -> None:
        parts = prepare_rated_pairs(self, run, self.min_gap) if self.min_gap else prepare(self, run, "preferences")
        if self.use_margin and parts["train"]["margin"].null_count:
            raise DataError(
                f"use_margin needs a margin in every row of {self.data}: add them or set use_margin to false"
            )
        train, validation = parts["train"], parts["validation"]
        done = sum(event["event"] == "trained" for event in run.events)
        for member in range(done, self.members):
            seed = self.seed + member
            learner = RewardLearner(self, seed=seed)
            fit(
                learner,
                run,
                self.training,
                train=train,
                validation=validation,
                seed=seed,
                address=self.address,
                member=member,
            )


@dataclass(frozen=True)
class RewardBatch:
    """2B completions, chosen and rejected in turn."""

    tokens: TokenBatch
    margin_B: Tensor | None

    @property
    def weight(self) -> float:
        return self.tokens.completions / 2

    def to(self, device: torch.device) -> RewardBatch:
        margin_B = None if self.margin_B is None else self.margin_B.to(device)
        return replace(self, tokens=self.tokens.to(device), margin_B=margin_B)


class RewardLearner(Learner):
    """Scores an answer at its last token."""

    measures = ("accuracy", "gap", "reward")

    def __init__(self, job: RewardModelJob, *, seed: int) -> None:
        self.model, self.tokenizer, self.chat_template = job.model, job.tokenizer or job.model, job.chat_template
        self.layout, self.seed = job.layout, seed
        self.use_margin, self.center = job.use_margin, job.center
        self.padded = not job.layout.pack

    def build(self) -> nn.Module:
        model = RewardModel.from_policy(self.model, seed=self.seed, attention=PACKED if self.layout.pack else "sdpa")
        if self.layout.pack or self.layout.share_prompt:
            check_packable(model.backbone)
        return model

    def collate(self, rows: pa.Table) -> RewardBatch:
        margin_B = torch.tensor(rows["margin"].to_pylist()) if self.use_margin else None
        return RewardBatch(pairs_batch(rows, self.layout), margin_B)

    def loss(self, module: nn.Module, batch: RewardBatch) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        """Bradley-Terry loss summed over pairs; accuracy counts ties as one half."""
        rewards_2B = module(batch.tokens.last_C, **batch.tokens.model_inputs())
        chosen_B, rejected_B = rewards_2B[0::2], rewards_2B[1::2]
        loss_B = bradley_terry_loss(chosen_B, rejected_B, margin_B=batch.margin_B, center=self.center)
        right_B = (chosen_B > rejected_B).float() + 0.5 * (chosen_B == rejected_B).float()
        gap_B = (chosen_B - rejected_B).detach()
        pairs = batch.weight
        return loss_B.sum(), {
            "accuracy": (right_B.sum(), pairs),
            "gap": (gap_B.sum(), pairs),
            "reward": (rewards_2B.detach().sum(), 2 * pairs),
        }

    def name_rows(self, rows: pa.Table, places: list[int]) -> str:
        return name_rows(rows.take(pa.array(places)))

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, RewardModel)
        save_reward_model(module, ChatFormat(load_tokenizer(self.tokenizer), self.chat_template).tokenizer, folder)
