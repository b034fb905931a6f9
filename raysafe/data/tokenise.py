"""Rows as token ids, cached as Arrow by the content of rows, tokenizer, template and options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from raysafe.data.cache import TableCache, cache_key
from raysafe.data.places import like, name_rows
from raysafe.data.schema import Kind
from raysafe.errors import DataError

TooLong = Literal["error", "drop", "truncate-prompt"]
_ANSWERS: dict[str, tuple[str, ...]] = {"preferences": ("chosen", "rejected"), "demonstrations": ("completion",)}
_IDS = pa.list_(pa.int32())
_FORMAT = "tokenised 1"
"""Part of the cache's keys: to be counted up when the same rows come out as other tables."""


class Encoder(Protocol):
    """What makes tokens of conversations: models.chat.ChatFormat."""

    def encode_batch(self, prompts: Sequence[Any], *completions: Sequence[str]) -> tuple[list[list[int]], ...]: ...

    @property
    def fingerprint(self) -> str: ...


def tokenise(
    table: pa.Table,
    kind: Kind,
    encoder: Encoder,
    *,
    longest: int,
    too_long: TooLong = "error",
    longest_is_context: bool = False,
) -> pa.Table:
    """`prompt_ids`, `<answer>_ids`, `length` (tokens of prompt and answers), `row`, and `margin` of preferences.

    longest: tokens of prompt and one answer together. Raises DataError for longer rows unless they are to be dropped or
    have their prompts cut from the left; an answer that leaves no room for a prompt's token is dropped in both cases.
    longest_is_context: nothing longer fits the model, so that errors don't advise to raise max_length.
    """
    if not table.num_rows:
        return like(_table(kind, [], [[] for _ in _ANSWERS[kind]], table), table)
    key = cache_key(table, _FORMAT, kind, encoder.fingerprint, str(longest), too_long)
    advice = "set too_long to drop or truncate-prompt" + ("" if longest_is_context else ", or raise max_length")
    return like(TableCache().get(key, lambda: _encode(table, kind, encoder, longest, too_long, advice)), table)


def _encode(table: pa.Table, kind: Kind, encoder: Encoder, longest: int, too_long: TooLong, advice: str) -> pa.Table:
    names = _ANSWERS[kind]
    prompts, *answers = encoder.encode_batch(table["prompt"].to_pylist(), *(table[n].to_pylist() for n in names))
    room = [longest - max(map(len, several)) for several in zip(*answers, strict=True)]
    over = [i for i, prompt in enumerate(prompts) if len(prompt) > room[i]]
    if over and too_long == "error":
        first = over[0]
        length = len(prompts[first]) + longest - room[first]
        raise DataError(
            f"{len(over)} of {table.num_rows} rows are longer than {longest} tokens (first: row "
            f"{name_rows(table.slice(first, 1))} with {length}): {advice}"
        )
    keep = np.ones(table.num_rows, dtype=bool)
    for i in over:
        if too_long == "truncate-prompt" and room[i] >= 1:
            prompts[i] = prompts[i][-room[i] :]
        else:
            keep[i] = False
    kept = np.flatnonzero(keep)
    columns = [[column[i] for i in kept] for column in answers]
    return _table(kind, [prompts[i] for i in kept], columns, table.take(pa.array(kept)))


def _table(kind: Kind, prompts: list[list[int]], answers: list[list[list[int]]], source: pa.Table) -> pa.Table:
    lengths = [len(p) + sum(map(len, several)) for p, *several in zip(prompts, *answers, strict=True)]
    columns: dict[str, Any] = {"prompt_ids": pa.array(prompts, _IDS)}
    columns |= {f"{n}_ids": pa.array(column, _IDS) for n, column in zip(_ANSWERS[kind], answers, strict=True)}
    columns |= {"length": pa.array(lengths, pa.int32()), "row": source["row"]}
    if kind == "preferences":
        columns["margin"] = source["margin"]
    return pa.table(columns)
