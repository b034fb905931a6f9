"""One audit chain's file: rows as bytes, the lock, the torn end that a crash leaves.

Row n carries the hash of row n - 1, so a changed, removed or moved row breaks the chain (Schneier and Kelsey 1999,
less the encryption). A row has exactly one spelling in bytes: anything else in the file is no row.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from raysafe.errors import StorageError

GENESIS = "0" * 64
SUFFIX = ".jsonl"
BLOCK_BYTES = 65536
_PLAIN = json.JSONEncoder(default=str)
_SPELLING = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


class Content(NamedTuple):
    """What a caller wants recorded, spelled when it was handed over: a later change of `details` changes no row."""

    kind: str
    actor: str
    subject: str
    details: dict[str, Any]
    text: bytes
    """The canonical `{"actor":…,"details":…`, which begins the row's line."""

    @classmethod
    def of(cls, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Self:
        """Raises TypeError, ValueError or RecursionError where the details can't be written as JSON."""
        # read back: keys that are no strings become strings and are sorted as such, as the row's readers sort them
        details = json.loads(_PLAIN.encode(details))
        return cls(kind, actor, subject, details, canonical({"actor": actor, "details": details})[:-1])


class AuditRow(NamedTuple):
    """One decision."""

    seq: int
    time: str
    kind: str
    actor: str
    subject: str
    details: dict[str, Any]
    prev: str
    hash: str


def write_row(seq: int, prev: str, content: Content) -> tuple[AuditRow, bytes]:
    """The row after the one whose hash is `prev`, and its line in the file."""
    time = datetime.now(UTC).isoformat(timespec="microseconds")
    kind, actor, subject, details, begin = content
    end = canonical({"kind": kind, "prev": prev, "seq": seq, "subject": subject, "time": time})[1:]
    digest = hashlib.sha256(begin + b"," + end).hexdigest()
    line = b'%b,"hash":"%b",%b\n' % (begin, digest.encode(), end)
    return AuditRow(seq, time, kind, actor, subject, details, prev, digest), line


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for the same value."""
    return _SPELLING.encode(value).encode("utf-8", "surrogatepass")


def row_hash(fields: dict[str, Any]) -> str:
    """sha256 of a row's other fields, as hex."""
    return hashlib.sha256(canonical({k: v for k, v in fields.items() if k != "hash"})).hexdigest()


def parse_row(line: bytes) -> dict[str, Any] | None:
    """The row of a line without its end; None where the line is not, byte for byte, what is written for a row."""
    try:
        value = json.loads(line)
        # two spellings of one value would let a reader that takes the first of two equal keys see another row
        good = isinstance(value, dict) and set(value) == set(AuditRow._fields) and canonical(value) == line
    except (ValueError, RecursionError):
        return None
    return value if good else None


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None, bool]]:
    """Number, row (None where it is none) and whether the line has its end, one line at a time."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, parse_row(line.removesuffix(b"\n")), line.endswith(b"\n")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line numbers and rows of a chain's file, one at a time; None where a line is no row."""
    return ((number, row if ended else None) for number, row, ended in read_lines(path))


def read_back(path: Path) -> Iterator[dict[str, Any] | None]:
    """Rows of a chain's file, the newest first, reading no more of it than is asked for; None where a line is no row.

    A last line without its end, which is being written, is left out.
    """
    with open(path, "rb") as file:
        position, rest = os.fstat(file.fileno()).st_size, b""
        whole = False
        while position > 0:
            start = max(0, position - BLOCK_BYTES)
            rest = os.pread(file.fileno(), position - start, start) + rest
            position = start
            first, *lines = rest.split(b"\n") if start == 0 or b"\n" in rest else (rest,)
            rest = first
            if not lines:
                continue
            if not whole:
                # what stands after the last end of a line is no line yet
                lines, whole = lines[:-1], True
            yield from map(parse_row, reversed(lines))
        if whole:
            yield parse_row(rest)


def open_chain(folder: Path, writer: str, unique: bool) -> tuple[str, int]:
    """Open a chain's file for this process alone; returns its writer's name and the descriptor."""
    if not re.fullmatch(r"\w[\w.-]*", writer):
        raise StorageError(f"'{writer}' names no audit writer: letters, digits, '_', '-' and '.' make a name")
    number = 1
    while True:
        name = writer if number == 1 else f"{writer}-{number}"
        path = folder / f"{name}{SUFFIX}"
        new = not path.exists()
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            if not unique:
                raise StorageError(
                    f"another process writes the audit chain '{writer}' in {folder}: end it, or use another name"
                ) from None
            number += 1
            continue
        if new:
            sync_folder(folder)
        return name, file


def sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_torn(file: int) -> bytes:
    """Cut a last line without an end off the file; returns what was cut."""
    end = os.fstat(file).st_size
    torn = _tail(file, end, 1)[-1]
    if torn:
        os.ftruncate(file, end - len(torn))
        os.fsync(file)
    return torn


def last_row(file: int, path: Path) -> tuple[int, str]:
    """Sequence number and hash of the last row; raises StorageError where the end is no row."""
    end = os.fstat(file).st_size
    if not end:
        return 0, GENESIS
    row = parse_row(_tail(file, end, 2)[-2])
    if row is None or row["hash"] != row_hash(row):
        raise StorageError(f"{path} ends in no audit row: run `raysafe audit verify`, then write under another name")
    return row["seq"], row["hash"]


def write_all(file: int, content: bytes) -> None:
    """Append and make durable; raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.fdatasync(file)


def _tail(file: int, end: int, ends: int) -> list[bytes]:
    """The end of a file, split at line ends, of which at least `ends` are in it unless the file has fewer."""
    position, tail = end, b""
    while position > 0 and tail.count(b"\n") < ends:
        start = max(0, position - BLOCK_BYTES)
        tail = os.pread(file, position - start, start) + tail
        position = start
    return tail.split(b"\n")
