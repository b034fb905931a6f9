"""What the files of a run hold, checked as far as readers rely on it. Damage raises ValueError, OSError or the parser's
own errors; `Run` makes a sentence of them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from raysafe.records.evidence import Evidence


def settings(content: bytes) -> dict[str, Any]:
    """config.yaml."""
    values = yaml.safe_load(content)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError("it must map names to settings")
    if not isinstance(values.get("seed", 0), int):
        raise ValueError(f"seed must be a whole number, got {values['seed']!r}")
    return values


def events(content: bytes) -> list[dict[str, Any]]:
    """events.jsonl. It is replaced whole, so a torn last line is damage too."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            event = json.loads(line)
            known = isinstance(event, dict) and isinstance(event.get("event"), str)
            if not known or datetime.fromisoformat(str(event.get("time"))).tzinfo is None:
                raise ValueError("no event with its name and time")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        found.append(event)
    return found


def metrics(content: bytes) -> list[dict[str, Any]]:
    """metrics.parquet."""
    rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    if not all(isinstance(row.get("step"), int) for row in rows):
        raise ValueError("it has rows without a step")
    return rows


def environment(content: bytes) -> dict[str, Any]:
    """environment.json."""
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it must hold a mapping")
    inputs = values.get("inputs", [])
    if not isinstance(inputs, list) or not all(
        isinstance(i, dict) and {"kind", "uri", "sha256"} <= {*i} for i in inputs
    ):
        raise ValueError("inputs must be a list of kind, uri and sha256")
    return values


def evidence(content: bytes) -> list[Evidence]:
    """evidence.json."""
    items = json.loads(content)
    if not isinstance(items, list):
        raise ValueError("it must hold a list")
    return [Evidence.model_validate(item) for item in items]
