"""Where rows stand in their files, for messages: `row` is a line counted from 1, later files go on from earlier ones.

The files, and where each begins to count, are metadata of a table's schema: they follow the rows and are in no cache
key.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from itertools import groupby

import pyarrow as pa

_FILES = b"raysafe.files"
_SHOWN = 16


def with_files(table: pa.Table, files: list[tuple[str, int]]) -> pa.Table:
    """The table, with (file, what is added to its lines to make `row`) of each file, in order."""
    return table.replace_schema_metadata({_FILES: json.dumps(files).encode()})


def like(table: pa.Table, source: pa.Table) -> pa.Table:
    """The table, with the files of the one that it was made from."""
    return table.replace_schema_metadata(source.schema.metadata)


def name_rows(table: pa.Table) -> str:
    """The rows as file:line, "a.jsonl:4, 11; b.jsonl:2"; lines alone where the files aren't known."""
    rows = sorted(set(table["row"].to_pylist()))
    files: list[tuple[str, int]] = json.loads((table.schema.metadata or {}).get(_FILES, b"[]")) or [("", 0)]
    starts = [start for _, start in files]
    places = [(files[max(0, bisect_left(starts, row) - 1)], row) for row in rows[:_SHOWN]]
    named = [
        (f"{file}:" if file else "") + ", ".join(str(row - start) for _, row in some)
        for (file, start), some in groupby(places, key=lambda place: place[0])
    ]
    return "; ".join(named) + (", …" if len(rows) > _SHOWN else "")
