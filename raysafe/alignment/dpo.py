"""Direct preference optimisation (Rafailov et al. 2023): data path, batch and learner; the loss is in losses.py.

The reference policy never changes, so its log-probabilities are computed once (reference.py) and travel with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import pyarrow as pa
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from raysafe.alignment.job import PolicyJob, PolicyLearner
from raysafe.alignment.losses import DPOKind, check_dpo_options, dpo_loss, likelihood_loss
from raysafe.alignment.pairs import pairs_batch
from raysafe.alignment.prepare import prepare
from raysafe.alignment.reference import with_logprobs
from raysafe.models.logprobs import sequence_logprobs
from raysafe.models.packing import TokenBatch
from raysafe.runtime.fit import fit
from raysafe.runtime.run import Run


class DPOJob(PolicyJob):
    """Train a policy on preference pairs, without a reward model."""

    job: ClassVar[str] = "dpo"

    reference: str | None = Field(default=None, description="Reference policy; the starting policy by default.")
    beta: float = Field(default=0.1, gt=0, description="Strength of the tie to the reference policy.")
    kind: DPOKind = Field(default="sigmoid", description="Loss: sigmoid (DPO), conservative, robust, ipo or hinge.")
    label_smoothing: float = Field(
        default=0.0, description="Share of labels taken to be wrong; conservative and robust only."
    )
    likelihood: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the chosen answer's negative log-likelihood per token beside the loss: keeps it likely, "
        "where the loss alone only makes the rejected one less likely.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_dpo_options(self.kind, self.label_smoothing)
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        return DPOLearner.measures

    def work(self, run: Run) -> None:
        parts = prepare(self, run, "preferences")
        reference = self.reference or self.model
        train, validation = (
            with_logprobs(
                reference,
                parts[part],
                layout=self.layout,
                micro_tokens=self.training.micro_tokens,
                precision=self.training.precision,
                needs=self.training.needs,
                address=self.address,
                description=f"reference log-probabilities, {part}",
            )
            for part in ("train", "validation")
        )
        learner = DPOLearner(self)
        fit(learner, run, self.training, train=train, validation=validation, seed=self.seed, address=self.address)


@dataclass(frozen=True)
class DPOBatch:
    """2B completions, chosen and rejected in turn, and the reference's summed log-probabilities."""

    tokens: TokenBatch
    reference_2B: Tensor
    lengths_2B: Tensor

    @property
    def weight(self) -> float:
        return self.reference_2B.numel() / 2

    def to(self, device: torch.device) -> DPOBatch:
        return replace(
            self,
            tokens=self.tokens.to(device),
            reference_2B=self.reference_2B.to(device),
            lengths_2B=self.lengths_2B.to(device),
        )


class DPOLearner(PolicyLearner):
    """Scores pairs by how much further the policy has moved towards the chosen answer than towards the rejected one."""

    measures = ("accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_logp")

    def __init__(self, job: DPOJob) -> None:
        super().__init__(job)
        self.beta, self.label_smoothing = job.beta, job.label_smoothing
        self.kind: DPOKind = job.kind
        self.likelihood = job.likelihood

    def collate(self, rows: pa.Table) -> DPOBatch:
        tokens = pairs_batch(rows, self.layout)
        reference_B2 = torch.tensor([rows["logp_chosen"].to_pylist(), rows["logp_rejected"].to_pylist()]).T
        lengths_2B = torch.bincount(tokens.completion_N, minlength=tokens.completions)
        return DPOBatch(tokens, reference_B2.reshape(-1), lengths_2B)

    def loss(self, module: nn.Module, batch: DPOBatch) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        """DPO loss, and the likelihood's where it has a weight, summed over pairs; accuracy counts ties as one half."""
        logps_2B = sequence_logprobs(module, batch.tokens)
        reference_2B = batch.reference_2B.to(logps_2B.dtype)
        loss_B, chosen_B, rejected_B = dpo_loss(
            logps_2B[0::2],
            logps_2B[1::2],
            reference_2B[0::2],
            reference_2B[1::2],
            beta=self.beta,
            kind=self.kind,
            label_smoothing=self.label_smoothing,
            chosen_lengths_B=batch.lengths_2B[0::2] if self.kind == "ipo" else None,
            rejected_lengths_B=batch.lengths_2B[1::2] if self.kind == "ipo" else None,
        )
        if self.likelihood:
            loss_B = loss_B + self.likelihood * likelihood_loss(logps_2B[0::2], batch.lengths_2B[0::2])
        right_B = (chosen_B > rejected_B).float() + 0.5 * (chosen_B == rejected_B).float()
        pairs = batch.weight
        return loss_B.sum(), {
            "accuracy": (right_B.sum(), pairs),
            "margin": ((chosen_B - rejected_B).sum(), pairs),
            "chosen_reward": (chosen_B.sum(), pairs),
            "rejected_reward": (rejected_B.sum(), pairs),
            "chosen_logp": (logps_2B[0::2].detach().sum(), pairs),
        }
