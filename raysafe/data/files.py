"""Raw rows from files: JSON Lines (.gz too), CSV and Parquet, a folder or glob of them, or a Hugging Face dataset."""

from __future__ import annotations

import csv
import glob
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from raysafe.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".parquet")
HUB_TIMEOUT_S = 10.0
_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w-]+))?")


class RawRow(NamedTuple):
    """One row as it stands in a file: a mapping, or the reason why it isn't one."""

    file: str
    line: int
    value: dict[str, Any] | str


def find_files(uri: str) -> list[Path]:
    """The files that `uri` names, sorted; raises DataError where there are none."""
    path = Path(uri).expanduser()
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DataError(f"can't tell the format of {uri}: its name must end in {', '.join(SUFFIXES)}")
        return [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    else:
        files = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if p.endswith(SUFFIXES))
    if files:
        return files
    if path.is_dir():
        raise DataError(f"the folder {uri} holds no data file ({', '.join(SUFFIXES)})")
    hub = _HUB_ID.fullmatch(uri)
    if hub is None or uri.endswith(SUFFIXES):
        raise DataError(f"there is no data file {uri}: give a file, a folder, a glob, or a Hugging Face dataset id")
    return _download(hub["name"], hub["revision"], hub["split"])


def raw_rows(path: Path) -> Iterator[RawRow]:
    """Rows of one file with their line numbers (row numbers in Parquet), counted from 1; raises DataError."""
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".csv":
            yield from _csv(path)
        else:
            yield from _json_lines(path)
    except FileNotFoundError:
        raise DataError(f"there is no data file {path}") from None
    except PermissionError:
        raise DataError(f"no permission to read {path}: change its mode or copy it") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): fetch it again") from None


def _json_lines(path: Path) -> Iterator[RawRow]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield RawRow(str(path), number, _json_line(line))


def _json_line(line: bytes) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start})"
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg} at column {error.colno}); each line must be one JSON object"
    return value if isinstance(value, dict) else f"a JSON {type(value).__name__}, not an object"


def _csv(path: Path) -> Iterator[RawRow]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                extra = row.pop(None, None)  # type: ignore[call-overload]
                yield RawRow(str(path), reader.line_num, "more cells than the header has" if extra else dict(row))
        except csv.Error as error:
            yield RawRow(str(path), reader.line_num, f"not CSV ({error})")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 (near line {reader.line_num}, byte {error.start})") from None


def _parquet(path: Path) -> Iterator[RawRow]:
    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield RawRow(str(path), number, row)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from None


def _download(name: str, revision: str | None, split: str | None) -> list[Path]:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[f"*{suffix}" for suffix in SUFFIXES],
            etag_timeout=HUB_TIMEOUT_S,
        )
    except Exception as error:  # the hub's client has a dozen error classes, and httpx's come through as well
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(
            f"'{name}' is no file here and can't be had from the Hugging Face hub ({reason[:200].rstrip('.:')}): "
            "check the path or the dataset id, or go online"
        ) from error
    files = sorted(p for p in Path(folder).rglob("*") if p.name.endswith(SUFFIXES))
    chosen = [p for p in files if split is None or split in p.relative_to(folder).as_posix()]
    if not chosen:
        raise DataError(
            f"the dataset {name} has no file of split '{split}'; files: {', '.join(p.name for p in files[:8])}"
        )
    return chosen
