"""Prompts of online training: read, split, encoded, and checked against the context before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raysafe.alignment.job import record_inputs
from raysafe.alignment.prepare import HELD_OUT
from raysafe.alignment.rewards import CHECKS, Answers, Messages
from raysafe.data.places import name_rows
from raysafe.data.readers import read
from raysafe.data.schema import to_json_lines
from raysafe.data.split import split_by_prompt
from raysafe.errors import DataError
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.alignment.online import OnlineJob


@dataclass(frozen=True)
class Prompts:
    """Prompts as messages, labels and token ids."""

    messages: list[Messages]
    labels: list[str | None]
    ids: list[list[int]]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: np.ndarray) -> Prompts:
        return Prompts(*([column[i] for i in places] for column in (self.messages, self.labels, self.ids)))

    def answers(self, group_C: np.ndarray, texts: list[str]) -> Answers:
        """Answers to these prompts, each with what a reward may look at."""
        return Answers([self.messages[g] for g in group_C], texts, [self.labels[g] for g in group_C])


def read_prompts(job: OnlineJob, run: Run) -> dict[str, Prompts]:
    """Prompts by part, train and validation; held-out.jsonl gets those of the test part.

    Raises DataError for a prompt that leaves no room for an answer of max_tokens, unless it may be dropped or cut.
    """
    dataset = read(job.data, "prompts", skip_bad_rows=job.skip_bad_rows, limit=job.limit)
    record_inputs(job, run, dataset.digest)
    tables = split_by_prompt(dataset.table, job.fractions, seed=job.seed)
    if job.train_limit:
        tables["train"] = tables["train"].slice(0, job.train_limit)
    tables["validation"] = tables["validation"].slice(0, job.validation_prompts)
    if tables["test"].num_rows:
        run.folder.write(HELD_OUT, to_json_lines(tables["test"].to_pylist()))
    for name in ("train", "validation"):
        check_labels(job, tables[name])
    parts = {name: _encoded(job, tables[name]) for name in ("train", "validation")}
    run.event(
        "data",
        read=dataset.table.num_rows,
        rows={name: len(part) for name, part in parts.items()} | {"test": tables["test"].num_rows},
        bad_rows=len(dataset.bad_rows),
        first_bad_rows=[str(bad) for bad in dataset.bad_rows[:20]],
    )
    for name, part in parts.items():
        if not len(part):
            dropped = f", {tables[name].num_rows} were too long" if tables[name].num_rows else ""
            raise DataError(
                f"no {name} prompts are left of {job.data}{dropped}: change validation_fraction, or add prompts"
            )
    return parts


def check_labels(job: OnlineJob, table: pa.Table) -> None:
    """Raise DataError, naming the row, for a label that a check among the rewards can't use."""
    kinds = [source.partition(":")[::2] for source in (*job.rewards, job.gold or "")]
    checks = [rest for kind, rest in kinds if kind == "check"]
    for place, label in enumerate(table["label"].to_pylist() if checks else []):
        row = f"row {name_rows(table.slice(place, 1))}"
        if label is None:
            raise DataError(f"check:{checks[0]} needs a label in every row of the prompts, {row} has none: add 'label'")
        for name in checks:
            try:
                CHECKS[name]("", label)
            except DataError as error:
                raise DataError(f"{row}: {error}") from None


def _encoded(job: OnlineJob, table: pa.Table) -> Prompts:
    messages = table["prompt"].to_pylist()
    (ids,) = job.chat_format().encode_batch(messages)
    room = job.longest - job.max_tokens
    over = [i for i, prompt in enumerate(ids) if len(prompt) > room]
    if over and (job.too_long == "error" or room < 1):
        raise DataError(
            f"{len(over)} of {len(ids)} prompts leave no room for an answer of {job.max_tokens} tokens within "
            f"{job.longest} (first: row {name_rows(table.slice(over[0], 1))} with {len(ids[over[0]])}): "
            "lower max_tokens, or set too_long to drop or truncate-prompt"
        )
    if job.too_long == "truncate-prompt":
        ids = [prompt[-room:] for prompt in ids]
        over = []
    kept = np.setdiff1d(np.arange(len(ids)), over)
    return Prompts(messages, table["label"].to_pylist(), ids).take(kept)
