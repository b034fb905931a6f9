"""Splits by a hash of the prompt: no prompt is in two parts, and adding rows moves none that was there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import pyarrow as pa

from raysafe.errors import ConfigError


def split_by_prompt(table: pa.Table, fractions: Mapping[str, float], *, seed: int = 0) -> dict[str, pa.Table]:
    """Parts of `table` by the hash of its `prompt` (or `text`) column; fractions must add up to 1."""
    if not (abs(sum(fractions.values()) - 1) <= 1e-9 and min(fractions.values()) >= 0):
        raise ConfigError(f"split fractions must be 0 or more and add up to 1, got {dict(fractions)}")
    column = "prompt" if "prompt" in table.column_names else "text"
    places = [place(value, seed) for value in table[column].to_pylist()]
    parts, start = {}, 0.0
    names = list(fractions)
    for name in names:
        end = 1.0 if name == names[-1] else start + fractions[name]
        rows = [i for i, p in enumerate(places) if start <= p < end]
        parts[name] = table.take(pa.array(rows, pa.int64()))
        start = end
    return parts


def place(value: object, seed: int) -> float:
    """A number in [0, 1) that depends on the value and the seed alone."""
    text = json.dumps([seed, value], ensure_ascii=False, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2**56
