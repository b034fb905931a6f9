"""From a data file to tokenised parts: read, split by prompt, encode, cache."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from raysafe.alignment.job import AlignmentJob, Parts, record_inputs
from raysafe.data.readers import Dataset, read
from raysafe.data.schema import Kind, to_json_lines
from raysafe.data.split import split_by_prompt
from raysafe.data.tokenise import tokenise
from raysafe.errors import DataError
from raysafe.runtime.run import Run

HELD_OUT = "held-out.jsonl"
"""Rows of the test part, in the run: what `raysafe evaluate` may be given."""


def prepare(job: AlignmentJob, run: Run, kind: Kind) -> Parts:
    """Tokenised train, validation and test rows of `job.data`; no prompt is in two parts.

    Rows carry `length`, the tokens that they cost in the job's layout. The run notes what was read, dropped and split.
    """
    dataset = read(job.data, kind, skip_bad_rows=job.skip_bad_rows, limit=job.limit)
    record_inputs(job, run, dataset.digest)
    return encode_parts(job, run, dataset, split_by_prompt(dataset.table, job.fractions, seed=job.seed), kind)


def encode_parts(job: AlignmentJob, run: Run, dataset: Dataset, tables: dict[str, pa.Table], kind: Kind) -> Parts:
    """Tokenise the parts of a data set."""
    chat, longest, context = job.chat_format(), job.longest, job.context
    parts = {}
    if job.train_limit:
        tables = tables | {"train": tables["train"].slice(0, job.train_limit)}
    if tables["test"].num_rows:
        run.folder.write(HELD_OUT, to_json_lines(tables["test"].to_pylist()))
    for name, table in tables.items():
        encoded = tokenise(
            table, kind, chat, longest=longest, too_long=job.too_long, longest_is_context=longest == context
        )
        parts[name] = with_cost(encoded, share_prompt=job.layout.share_prompt)
    run.event(
        "data",
        read=dataset.table.num_rows,
        rows={name: table.num_rows for name, table in parts.items()},
        bad_rows=len(dataset.bad_rows),
        first_bad_rows=[str(bad) for bad in dataset.bad_rows[:20]],
    )
    if not parts["train"].num_rows:
        raise DataError(f"no training rows are left of {job.data}: lower validation_fraction and test_fraction")
    return parts


def ids(column: pa.ChunkedArray) -> list[np.ndarray]:
    """Rows of a list<int> column as int64 arrays."""
    lists = column.combine_chunks()
    values = np.asarray(lists.values).astype(np.int64)
    offsets = np.asarray(lists.offsets)
    return [values[start:end] for start, end in pairwise(offsets)]


def with_cost(table: pa.Table, *, share_prompt: bool) -> pa.Table:
    """Set `length` to a row's tokens in the layout: pairs repeat their prompt where it is not shared."""
    if share_prompt or "rejected_ids" not in table.column_names:
        return table
    prompts = np.asarray([len(p) for p in ids(table["prompt_ids"])], dtype=np.int32)
    cost = pa.array(np.asarray(table["length"]) + prompts, pa.int32())
    return table.set_column(table.column_names.index("length"), "length", cost)
