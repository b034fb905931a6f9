"""Supervised fine-tuning: cross-entropy of demonstrated answers, given their prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from raysafe.alignment.job import PolicyJob, PolicyLearner
from raysafe.alignment.prepare import ids, prepare
from raysafe.models.logprobs import token_logprobs
from raysafe.models.packing import TokenBatch, lay_out
from raysafe.runtime.fit import fit
from raysafe.runtime.run import Run


class SFTJob(PolicyJob):
    """Fine-tune a policy on demonstrations: prompts with good answers."""

    job: ClassVar[str] = "sft"

    def work(self, run: Run) -> None:
        parts = prepare(self, run, "demonstrations")
        learner = SFTLearner(self)
        train, validation = parts["train"], parts["validation"]
        fit(learner, run, self.training, train=train, validation=validation, seed=self.seed, address=self.address)


@dataclass(frozen=True)
class SFTBatch:
    tokens: TokenBatch

    @property
    def weight(self) -> float:
        return float(self.tokens.tokens)

    def to(self, device: torch.device) -> SFTBatch:
        return replace(self, tokens=self.tokens.to(device))


class SFTLearner(PolicyLearner):
    """Negative log-likelihood per completion token."""

    def collate(self, rows: pa.Table) -> SFTBatch:
        completions = [[completion] for completion in ids(rows["completion_ids"])]
        return SFTBatch(lay_out(ids(rows["prompt_ids"]), completions, self.layout))

    def loss(self, module: nn.Module, batch: SFTBatch) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        return -token_logprobs(module, batch.tokens).sum(), {}
