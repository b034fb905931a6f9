"""Reading validated rows. A bad row is reported with file, line and reason, and stops the job unless it may go."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from raysafe.data.conversation import BadValue
from raysafe.data.files import find_files, raw_rows
from raysafe.data.places import with_files
from raysafe.data.schema import SCHEMAS, Kind, Row
from raysafe.errors import DataError
from raysafe.records.digest import file_digest

SHOWN_BAD_ROWS = 5


class BadRow(NamedTuple):
    """A row that can't be used."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Dataset:
    """Validated rows in the kind's schema; `row` is a row's line, counted on from file to file (places.py)."""

    table: pa.Table
    digest: str
    """sha256 over the files' contents."""
    bad_rows: list[BadRow]
    uri: str


def read(uri: str, kind: Kind, *, skip_bad_rows: bool = False, limit: int | None = None) -> Dataset:
    """Rows of `kind` from a file, folder, glob or Hugging Face dataset id; the first `limit` good ones.

    Raises DataError for missing files, for bad rows unless they are to be skipped, and where no row is left.
    """
    files = find_files(uri)
    schema = SCHEMAS[kind]
    rows: list[Row] = []
    bad: list[BadRow] = []
    starts: list[tuple[str, int]] = []
    line = 0
    for file in files:
        start = line
        starts.append((str(file), start))
        for raw in raw_rows(file):
            if limit is not None and len(rows) >= limit:
                break
            line = start + raw.line
            if isinstance(raw.value, str):
                bad.append(BadRow(raw.file, raw.line, raw.value))
                continue
            try:
                rows.append(schema.parse(raw.value) | {"row": line})
            except BadValue as error:
                bad.append(BadRow(raw.file, raw.line, str(error)))
    if bad and not skip_bad_rows:
        shown = "; ".join(map(str, bad[:SHOWN_BAD_ROWS])) + ("; …" if len(bad) > SHOWN_BAD_ROWS else "")
        count = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        raise DataError(f"{count} in {uri}: {shown} (mend them, or set skip_bad_rows)")
    if not rows:
        raise DataError(f"{uri} holds no {kind}" + (f": all {len(bad)} rows are bad, first {bad[0]}" if bad else ""))
    digest = hashlib.sha256("".join(file_digest(file) for file in files).encode()).hexdigest()
    table = with_files(pa.Table.from_pylist(rows, schema=schema.arrow), starts)
    return Dataset(table, digest, bad, uri)
