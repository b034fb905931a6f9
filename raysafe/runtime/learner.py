"""Learner: what is trained and how it is scored. fit() (in fit.py) owns everything else: loop, ranks, checkpoints."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.runtime.cluster import Needs

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn
    from torch.optim import Optimizer


Precision = Literal["auto", "float32", "bfloat16", "float64"]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class OptimConfig(Config):
    """How a batch becomes an optimiser step, in fit() and in online training alike."""

    micro_tokens: int = Field(
        default=4096, ge=1, description="Tokens per forward pass on one worker: lower it if memory runs out."
    )
    learning_rate: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.95), description="AdamW's decay rates of the two moments.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="cosine", description="Learning rate after the warm-up."
    )
    warmup_fraction: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of the steps in which the learning rate rises.",
    )
    clip_norm: float | None = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Largest norm of the gradient; none to leave it."
    )
    precision: Precision = Field(
        default="auto",
        description="bfloat16 computes under autocast with float32 weights; auto takes it on GPUs that have it.",
    )
    sharding: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="Copy the model to every worker, or shard it (FSDP2)."
    )
    activation_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )

    def rate(self, step: int, total_steps: int) -> float:
        """Learning rate of a step, counted from 0: a linear warm-up, then the schedule down to zero."""
        warmup = int(self.warmup_fraction * total_steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total_steps - warmup)
        if self.schedule == "linear":
            return self.learning_rate * (1 - done)
        return self.learning_rate * (0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0)


class FitConfig(OptimConfig):
    """How a learner is trained; the same fields for every one of them."""

    epochs: int = Field(default=1, ge=1, description="Passes over the training rows.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Stop after this many steps, whatever the epochs say."
    )
    batch_size: int = Field(default=16, ge=1, description="Rows per optimiser step, over all workers.")
    workers: int = Field(default=1, ge=1, description="Training processes.")
    cpus_per_worker: float = Field(default=1, gt=0, allow_inf_nan=False)
    gpus_per_worker: float = Field(
        default=0, ge=0, allow_inf_nan=False, description="0 or 1; a share of one with a single worker, as in a sweep."
    )
    evaluate_every: int | None = Field(
        default=None, ge=1, description="Steps between validations; once an epoch by default."
    )
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="Steps between checkpoints, besides one per validation."
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="Best checkpoints kept, besides the latest.")
    monitor: str = Field(default="loss", description="Validation figure that chooses the best model.")
    monitor_mode: Literal["min", "max"] = "min"
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many validations without a better figure."
    )
    max_failures: int = Field(default=3, ge=0, description="Times that dead workers are replaced before the run fails.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.precision == "float64" and self.gpus_per_worker:
            raise ValueError("precision float64 is for exact comparisons on the CPU: set gpus_per_worker to 0")
        if 0 < self.gpus_per_worker < 1 and self.workers > 1:
            raise ValueError("workers that exchange gradients need a GPU each: set gpus_per_worker or workers to 1")
        if self.gpus_per_worker > 1:
            raise ValueError("a training worker drives one GPU: set gpus_per_worker to 0 or 1 and add workers instead")
        return self

    @property
    def needs(self) -> Needs:
        return Needs(workers=self.workers, cpus=self.cpus_per_worker, gpus=self.gpus_per_worker)


@dataclass(frozen=True)
class RateGroup:
    """Parameters that learn at `factor` times the schedule's rate, from a share `start` of the steps on.

    Before it they stay as they are, and the optimiser knows nothing of their gradients.
    """

    names: frozenset[str]
    """As the unwrapped module names its parameters."""
    factor: float = 1.0
    start: float = 0.0


class Learner(ABC):
    """One trainable thing. It is pickled to the workers: it holds settings and paths, no modules or open files."""

    padded: bool = False
    """Whether collate pads rows to the longest, so that micro-batches are sized by count times longest."""

    measures: ClassVar[tuple[str, ...]] = ()
    """Names of the metrics of loss(), besides the loss itself: what training.monitor may name."""

    replays: int = 1
    """Steps that are taken on each batch, one after the other, before the next batch."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Load or construct the module on the CPU in float32; the same on every rank."""

    @abstractmethod
    def collate(self, rows: pa.Table) -> Any:
        """A batch: an object with `to(device)` and `weight`, the units (tokens, pairs) that its loss sums over."""

    @abstractmethod
    def loss(self, module: nn.Module, batch: Any) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        """The loss summed, not averaged, over the batch's units, and metrics as (sum, count).

        fit() divides by the units of the whole step, over ranks and accumulation. `module` may be wrapped: its forward
        pass must be called through it.
        """

    def rate_groups(self, module: nn.Module) -> Sequence[RateGroup]:
        """Which of the built module's parameters have a rate of their own; those in no group have the schedule's."""
        return ()

    def before_step(self, step: int, total_steps: int) -> None:  # noqa: B027 - a learner may need none
        """Told before each step, counted from 0, on every rank: what follows a schedule is set here."""

    def after_step(self, module: nn.Module, optimizer: Optimizer) -> None:  # noqa: B027
        """Told when the optimiser has changed the module's weights, on every rank; `module` is not wrapped."""

    def give_up(self, figures: dict[str, float], best: float | None) -> str | None:
        """Why to stop early, with the best model so far, or None; asked after each validation.

        figures: of this validation. best: the monitored figure at its best before.
        """
        return None

    def name_rows(self, rows: pa.Table, places: list[int]) -> str:
        """How a message names the rows at `places` of the training rows: their numbers, counted from 0, by default."""
        return ", ".join(map(str, places[:16])) + (", …" if len(places) > 16 else "")

    @abstractmethod
    def save(self, module: nn.Module, folder: Path) -> None:
        """Write the trained, unwrapped module as a model folder."""
