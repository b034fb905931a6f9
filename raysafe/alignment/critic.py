"""The critic of PPO: a value for every state of an answer, which is what stands before each of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pyarrow as pa
import torch
from torch import Tensor, nn

from raysafe.alignment.experience import ExperienceBatch, collate
from raysafe.alignment.losses import ppo_value_loss
from raysafe.alignment.trainer import OnlineLearner
from raysafe.models.attention import PACKED, check_packable
from raysafe.models.heads import HEAD, RewardModel, save_reward_model
from raysafe.models.language import load_tokenizer
from raysafe.models.packing import Layout
from raysafe.runtime.gradient import Metrics


class CriticLearner(OnlineLearner):
    """Rows carry `returns`, `values` (before the update) and `weights`. The head starts at zero."""

    measures = ("value_clipped", "value")

    def __init__(self, model: str, layout: Layout, *, value_clip: float | None, seed: int) -> None:
        """model: whose body the critic starts from, a policy or a reward model."""
        self.model, self.layout, self.value_clip, self.seed = model, layout, value_clip, seed
        self.lora, self.padded = None, not layout.pack

    def build(self) -> nn.Module:
        critic = RewardModel.from_policy(self.model, seed=self.seed, attention=PACKED if self.layout.pack else "sdpa")
        if self.layout.pack or self.layout.share_prompt:
            check_packable(critic.backbone)
        with torch.no_grad():
            cast(nn.Linear, getattr(critic.classifier, HEAD)).weight.zero_()
        return critic

    def collate(self, rows: pa.Table) -> ExperienceBatch:
        return collate(rows, self.layout)

    def forward(self, module: nn.Module, batch: ExperienceBatch) -> Tensor:
        """Value of the state that each token was drawn in, (N,)."""
        return module(batch.tokens.predictor_N, **batch.tokens.model_inputs())

    def loss(self, module: nn.Module, batch: ExperienceBatch) -> tuple[Tensor, Metrics]:
        values_N = self.forward(module, batch)
        figures = {name: figure.to(values_N.dtype) for name, figure in batch.figures.items()}
        loss_N, clipped_N = ppo_value_loss(values_N, figures["values"], figures["returns"], clip=self.value_clip)
        tokens = float(batch.tokens.tokens)
        return (loss_N * figures["weights"]).sum(), {
            "value_clipped": (clipped_N.sum(), tokens),
            "value": (values_N.detach().sum(), tokens),
        }

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, RewardModel)
        save_reward_model(module, load_tokenizer(self.model), folder)
