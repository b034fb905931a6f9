"""A starting model from nothing: a tokenizer trained on a data set's training part, and weights that know nothing.

For text too narrow or too private for a pretrained model, and for experiments that must know all that a model has seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import ClassVar, Self

import pyarrow as pa
from pydantic import Field, model_validator

from raysafe.alignment.job import check_fractions
from raysafe.config import Job
from raysafe.data.readers import read
from raysafe.data.schema import Kind
from raysafe.data.split import split_by_prompt
from raysafe.models.language import save_policy
from raysafe.models.presets import SMALLEST_VOCABULARY, Preset, make_policy, train_tokenizer
from raysafe.runtime.report import write_report
from raysafe.runtime.run import Run


class ScratchJob(Job):
    """Make an untrained policy and its tokenizer, to start sft, reward-model or dpo from."""

    job: ClassVar[str] = "scratch"

    data: str = Field(description="What the tokenizer learns from: a data file or a Hugging Face hub id.")
    kind: Kind = Field(description="What the rows are: preferences, demonstrations, prompts or ratings.")
    vocabulary: int = Field(default=4000, ge=SMALLEST_VOCABULARY, description="Most tokens of the tokenizer.")
    shape: Preset = Field(
        default=Preset(layers=2, width=128, heads=4, key_value_heads=4, feedforward=344, context=1024),
        description="Layers, width and context of the model, a small Llama.",
    )
    validation_fraction: float = Field(default=0.1, ge=0, lt=1, description="As in the job that will train it.")
    test_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="As in the job that will train it: the tokenizer sees the rest alone."
    )
    skip_bad_rows: bool = Field(default=False, description="Leave bad rows out instead of stopping at them.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.shape.width % self.shape.heads or self.shape.heads % self.shape.key_value_heads:
            raise ValueError(
                f"shape.width must be a multiple of shape.heads, and these of shape.key_value_heads, got "
                f"{self.shape.width}, {self.shape.heads} and {self.shape.key_value_heads}"
            )
        check_fractions(self.validation_fraction, self.test_fraction)
        return self

    def run(self, resume: Run | None = None) -> Run:
        """Train the tokenizer, draw the weights; leaves model/ in the run."""
        run = resume or Run.create(self)
        with run.active():
            dataset = read(self.data, self.kind, skip_bad_rows=self.skip_bad_rows)
            run.record_input("data", self.data, dataset.digest)
            rest = 1.0 - self.validation_fraction - self.test_fraction
            fractions = {"train": rest, "validation": self.validation_fraction, "test": self.test_fraction}
            train = split_by_prompt(dataset.table, fractions, seed=self.seed)["train"]
            tokenizer = train_tokenizer(texts(train), self.vocabulary)
            policy = make_policy(self.shape, tokenizer, self.seed)
            with tempfile.TemporaryDirectory(prefix="raysafe-model-") as folder:
                save_policy(policy, tokenizer, folder)
                run.folder.upload(folder, "model")
            run.event("made", vocabulary=len(tokenizer), parameters=policy.num_parameters(), texts=train.num_rows)
        write_report(run)
        return run


def texts(table: pa.Table) -> Iterator[str]:
    """All that the rows say, conversations message by message."""
    for row in table.to_pylist():
        for value in row.values():
            if isinstance(value, str):
                yield value
            elif isinstance(value, list):
                yield from (message["content"] for message in value)
