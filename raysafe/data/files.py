"""Raw rows from files: JSON Lines (.gz too), CSV, Parquet, Arrow; a folder or glob of them, or a Hub dataset."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from raysafe.data.conversation import BadValue
from raysafe.data.hub import download, parse_hub_id
from raysafe.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".parquet", ".arrow")
METADATA = ("dataset_infos.json", "dataset_dict.json", "dataset_info.json", "state.json")
"""What the `datasets` library writes beside rows."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MESSAGES_CELL = re.compile(r"\s*\[\s*\{\s*(['\"])(role|content)\1\s*:")


class RawRow(NamedTuple):
    """One row as it stands in a file: a mapping, or the reason why it isn't one."""

    file: str
    line: int
    value: dict[str, Any] | str


def find_files(uri: str) -> list[Path]:
    """The files that `uri` names, sorted; raises DataError where there are none."""
    if not uri.strip():
        raise DataError("no data file is named: give a file, a folder, a glob, or a Hugging Face dataset id")
    path = Path(os.path.expanduser(uri))
    try:
        files = _local_files(uri, path)
    except PermissionError as error:
        raise DataError(f"no permission to read {error.filename or uri}: change its mode or copy it") from None
    except OSError as error:
        raise DataError(f"there is no data file {uri[:200]} ({error.strerror})") from None
    if files:
        return files
    hub_id = parse_hub_id(uri)
    if hub_id is None or uri.endswith(SUFFIXES):
        raise DataError(f"there is no data file {uri}: give a file, a folder, a glob, or a Hugging Face dataset id")
    folder, names = download(hub_id, SUFFIXES)
    return [folder / name for name in names if _is_data(name)]


def _local_files(uri: str, path: Path) -> list[Path]:
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DataError(f"can't tell the format of {uri}: its name must end in {', '.join(SUFFIXES)}")
        return [path]
    if not path.is_dir():
        return sorted(Path(p) for p in glob.glob(str(path), recursive=True) if p.endswith(SUFFIXES))
    files: list[Path] = []
    for folder, subfolders, names in os.walk(path, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files += [Path(folder, name) for name in names if _is_data(name)]
    if not files:
        raise DataError(f"the folder {uri} holds no data file ({', '.join(SUFFIXES)})")
    return sorted(files)


def _is_data(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.endswith(SUFFIXES) and not base.startswith(".") and base not in METADATA


def _raise(error: OSError) -> None:
    raise error


def raw_rows(path: Path) -> Iterator[RawRow]:
    """Rows of one file with their line numbers (row numbers in Parquet and Arrow), counted from 1; raises DataError."""
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".arrow":
            yield from _arrow(path)
        elif path.suffix == ".csv":
            yield from _csv(path)
        else:
            yield from _json_lines(path)
    except FileNotFoundError:
        raise DataError(f"there is no data file {path}") from None
    except PermissionError:
        raise DataError(f"no permission to read {path}: change its mode or copy it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): fetch it again") from None
    except pa.ArrowInvalid as error:
        kind = "an Arrow" if path.suffix == ".arrow" else "a Parquet"
        raise DataError(f"{path} is not {kind} file ({_first_line(error)}): fetch it again") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"can't read {path} ({_first_line(error)}): fetch it again") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".: ")


def _json_lines(path: Path) -> Iterator[RawRow]:
    # gzip's own iteration goes through Python for each line
    with io.BufferedReader(gzip.open(path)) if path.suffix == ".gz" else open(path, "rb") as file:  # type: ignore[arg-type]
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line.strip():
                yield RawRow(str(path), number, _json_line(line))


def _json_line(line: bytes) -> dict[str, Any] | str:
    try:
        value = _parse_json(line)
    except BadValue as error:
        return f"{error}; each line must be one JSON object" if str(error).startswith("not JSON") else str(error)
    return value if isinstance(value, dict) else f"a JSON {type(value).__name__}, not an object"


def _parse_json(text: bytes) -> Any:
    try:
        # decoded here: json.loads(bytes) guesses UTF-16 from zero bytes
        value = json.loads(text.decode())
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise BadValue(f"not UTF-8 (byte {error.start})") from None
    except UnicodeEncodeError:
        raise BadValue("not Unicode (half of a surrogate pair)") from None
    except json.JSONDecodeError as error:
        raise BadValue(f"not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise BadValue("not readable JSON (nested too deeply)") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise BadValue(f"not readable JSON ({str(error).partition(':')[0]})") from None
    return value


def _csv(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(2**31 - 1)
    # bytes that are not UTF-8 come through as surrogates, so that they cost their row and not the file
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        line = 1
        try:
            header = next(reader, [])
            if len(set(header)) < len(header) or not _is_unicode(header):
                raise DataError(f"{path} needs a first line of distinct column names in UTF-8")
            line = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield RawRow(str(path), line, _csv_row(header, cells))
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: not CSV ({error}), so it can't be told where the next row begins: mend the quotes"
            ) from None


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | str:
    if len(cells) != len(header):
        return f"{len(cells)} cells where the header has {len(header)}"
    if not _is_unicode(cells):
        return "not UTF-8"
    row: dict[str, Any] = dict(zip(header, cells, strict=True))
    for name, cell in row.items():
        if _MESSAGES_CELL.match(cell):
            try:
                row[name] = _parse_json(cell.encode())
            except BadValue as error:
                return f"{name} looks like a list of messages but is {error}"
    return row


def _is_unicode(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet(path: Path) -> Iterator[RawRow]:
    with pq.ParquetFile(path) as file:
        yield from _numbered(path, file.iter_batches())


def _arrow(path: Path) -> Iterator[RawRow]:
    """An Arrow file, or a stream, which is what the `datasets` library writes under the same ending."""
    with pa.memory_map(str(path)) as source:
        whole = source.read(6) == b"ARROW1"
        source.seek(0)
        if whole:
            file = pa.ipc.open_file(source)
            yield from _numbered(path, (file.get_batch(index) for index in range(file.num_record_batches)))
        else:
            yield from _numbered(path, pa.ipc.open_stream(source))


def _numbered(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[RawRow]:
    rows = (row for batch in batches for row in _batch_rows(batch))
    for number, value in enumerate(rows, start=1):
        yield RawRow(str(path), number, value)


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                row: dict[str, Any] | str = batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                row = f"not UTF-8 (byte {error.start})"
            yield row
