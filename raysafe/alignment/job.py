"""What the jobs that train have in common: the settings, the run's life, and policies as learners."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, cast

import pyarrow as pa
from pydantic import Field, model_validator
from torch import nn

from raysafe.config import Job
from raysafe.data.places import name_rows
from raysafe.data.tokenise import TooLong
from raysafe.errors import ConfigError, ModelError
from raysafe.models.attention import PACKED, check_packable
from raysafe.models.chat import ChatFormat
from raysafe.models.language import (
    check_tokenizer,
    check_vocabulary,
    context_length,
    load_config,
    load_policy,
    load_tokenizer,
    model_digest,
    save_policy,
)
from raysafe.models.lora import LoraConfig, apply_lora, merge_lora
from raysafe.models.packing import Layout
from raysafe.runtime.cluster import preflight
from raysafe.runtime.learner import FitConfig, Learner
from raysafe.runtime.report import Section, write_report
from raysafe.runtime.run import Run
from raysafe.runtime.track import tracked
from raysafe.runtime.trackers import TrackerName, check_trackers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Parts = dict[str, pa.Table]
"""Tokenised rows by the part of the split that they are in: train, validation, test."""


class ModelJob(Job):
    """Settings of a job that trains a language model on a data file, whatever computes the gradients."""

    model: str = Field(description="Model folder, finished run, Hugging Face hub id, or preset:tiny.")
    data: str = Field(description="JSON Lines (.gz too), Parquet or CSV file, or a Hugging Face hub id.")
    tokenizer: str | None = Field(
        default=None, description="Folder or hub id of another tokenizer than the model's own."
    )
    chat_template: str = Field(default="auto", description="auto (the tokenizer's own), plain, or a Jinja file.")
    validation_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="Share of prompts that choose the best checkpoint."
    )
    test_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="Share of prompts kept away from training, as held-out.jsonl in the run."
    )
    limit: int | None = Field(default=None, ge=1, description="Read this many rows only.")
    train_limit: int | None = Field(
        default=None, ge=1, description="Train on this many rows only; the other parts of the split stay whole."
    )
    skip_bad_rows: bool = Field(default=False, description="Count and list bad rows instead of stopping at them.")
    max_length: int | None = Field(
        default=None, ge=2, description="Longest prompt + answer in tokens; the model's context by default."
    )
    too_long: TooLong = Field(
        default="error", description="What to do with longer rows: error, drop, or truncate-prompt."
    )
    track: tuple[TrackerName, ...] = Field(
        default=(), description="Send figures, settings and status there too: pip install 'raysafe[track]'."
    )
    track_project: str | None = Field(
        default=None,
        min_length=1,
        description="W&B project or MLflow experiment; WANDB_PROJECT, MLFLOW_EXPERIMENT_NAME or raysafe by default.",
    )
    layout: Layout = Layout()

    @model_validator(mode="after")
    def _trackable(self) -> Self:
        if len(set(self.track)) < len(self.track):
            raise ValueError(f"track names a tracker twice, got {', '.join(self.track)}: name each once")
        if self.track_project is not None and not self.track:
            raise ValueError("track_project does nothing without a tracker: add track, or leave track_project out")
        return self

    @model_validator(mode="after")
    def _splittable(self) -> Self:
        check_fractions(self.validation_fraction, self.test_fraction)
        return self

    def run(self, resume: Run | None = None) -> Run:
        """Train; leaves model/ and report.html in the run."""
        check_trackers(self.track)
        self.check_model()
        self.check_room()
        run = resume or Run.create(self)
        with run.locked(), tracked(run, self.track, self.track_project), run.active():
            self.work(run)
        # only now does the run say that it is finished
        write_report(run, sections=self.sections(run))
        return run

    def sections(self, run: Run) -> list[Section]:
        """What the report says besides what every report does."""
        return []

    @abstractmethod
    def check_room(self) -> None:
        """Raise ResourceError, before anything starts, where the machine or cluster can't hold the job."""

    @abstractmethod
    def work(self, run: Run) -> None:
        """Read the data, train, leave model/ in the run."""

    def chat_format(self) -> ChatFormat:
        return ChatFormat(load_tokenizer(self.tokenizer or self.model), self.chat_template)

    def check_model(self) -> None:
        """Raise ConfigError or ModelError where model, tokenizer and max_length don't go together; needs no weights."""
        check_vocabulary(load_config(self.model), load_tokenizer(self.tokenizer or self.model))
        context = self.context
        if context is not None and self.longest > context:
            raise ConfigError(
                f"max_length {self.longest} exceeds the context of {self.model}, which is {context} tokens: "
                f"set max_length to {context} or less"
            )

    @property
    def fractions(self) -> dict[str, float]:
        """Shares of the three parts that prompts are split into."""
        rest = 1.0 - self.validation_fraction - self.test_fraction
        return {"train": rest, "validation": self.validation_fraction, "test": self.test_fraction}

    @property
    def context(self) -> int | None:
        """Longest sequence that the model takes; None where only max_length says so."""
        try:
            return context_length(self.model)
        except ModelError:
            if self.max_length is None:
                raise
            return None

    @property
    def longest(self) -> int:
        return self.max_length or context_length(self.model)


def check_fractions(validation: float, test: float) -> None:
    """Raise ValueError where two parts of a split leave nothing to train on."""
    if validation + test >= 1:
        raise ValueError(
            f"validation_fraction {validation:g} and test_fraction {test:g} leave no rows to train on: "
            "their sum must be below 1"
        )


class AlignmentJob(ModelJob):
    """A job that trains by fit(), on rows that don't change."""

    training: FitConfig = FitConfig()

    @model_validator(mode="after")
    def _monitored(self) -> Self:
        known = ("loss", *self.measures)
        if self.training.monitor not in known:
            raise ValueError(
                f"training.monitor '{self.training.monitor}' is not measured here; choose one of {', '.join(known)}"
            )
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        """Metrics of the job's learner, besides the loss."""
        return ()

    def check_room(self) -> None:
        preflight(self.address, self.training.needs)


class PolicyJob(AlignmentJob):
    """A job whose result is a policy."""

    lora: LoraConfig | None = Field(default=None, description="Train low-rank adapters instead of all weights.")


class PolicySettings(Protocol):
    """What a learner must know of a job to load and save its policy."""

    @property
    def model(self) -> str: ...
    @property
    def tokenizer(self) -> str | None: ...
    @property
    def chat_template(self) -> str: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def lora(self) -> LoraConfig | None: ...


class PolicyLearner(Learner):
    """Loads and saves a causal language model."""

    def __init__(self, job: PolicySettings) -> None:
        self.model, self.tokenizer, self.chat_template = job.model, job.tokenizer or job.model, job.chat_template
        self.layout, self.lora = job.layout, job.lora
        self.padded = not job.layout.pack

    def build(self) -> nn.Module:
        model = load_packable(self.model, self.layout)
        check_tokenizer(model, load_tokenizer(self.tokenizer))
        return apply_lora(model, self.lora) if self.lora else model

    def name_rows(self, rows: pa.Table, places: list[int]) -> str:
        return name_rows(rows.take(pa.array(places)))

    def save(self, module: nn.Module, folder: Path) -> None:
        policy = cast("PreTrainedModel", module)
        merged = merge_lora(policy) if self.lora else policy
        save_policy(merged, ChatFormat(load_tokenizer(self.tokenizer), self.chat_template).tokenizer, folder)


def load_packable(model: str, layout: Layout) -> PreTrainedModel:
    """The policy with the attention that a layout needs."""
    policy = load_policy(model, attention=PACKED if layout.pack else "sdpa")
    if layout.pack or layout.share_prompt:
        check_packable(policy)
    return policy


def record_inputs(job: ModelJob, run: Run, data_digest: str) -> None:
    """Lineage: the data file and the starting model."""
    run.record_input("data", job.data, data_digest)
    run.record_input("model", job.model, model_digest(job.model))
