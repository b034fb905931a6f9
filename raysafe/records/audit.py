"""The audit log: one hash-chained, append-only file per writer, durable before anything acts on it.

Row n carries the hash of row n - 1, so a changed, removed or moved row breaks the chain (Schneier and Kelsey 1999,
less the encryption). Heads are signed and anchored in a second place (anchors.py), so that a cut-off end is found too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self

from sqlalchemy.engine import make_url

from raysafe.errors import StorageError
from raysafe.records.anchors import Anchors

logger = logging.getLogger(__name__)
GENESIS = "0" * 64
SUFFIX = ".jsonl"
ANCHOR_ROWS = 256
ANCHOR_INTERVAL_S = 60.0
"""An anchor is due after this many rows, or this long after the last one, whichever comes first."""


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

    @classmethod
    def make(cls, seq: int, kind: str, actor: str, subject: str, details: dict[str, Any], prev: str) -> Self:
        fields = (seq, datetime.now(UTC).isoformat(), kind, actor, subject, details, prev)
        return cls(*fields, row_hash(dict(zip(cls._fields, fields, strict=False))))

    def line(self) -> bytes:
        return canonical(self._asdict()) + b"\n"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for the same value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode("utf-8", "surrogatepass")


def row_hash(fields: dict[str, Any]) -> str:
    """sha256 of a row's other fields, as hex."""
    return hashlib.sha256(canonical({k: v for k, v in fields.items() if k != "hash"})).hexdigest()


def audit_folder(store_url: str) -> Path:
    """RAYSAFE_AUDIT, or audit/ beside a SQLite store, or runs/audit."""
    if os.environ.get("RAYSAFE_AUDIT"):
        return Path(os.environ["RAYSAFE_AUDIT"])
    url = make_url(store_url)
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(url.database).absolute().parent / "audit"
    return Path("runs", "audit").absolute()


class AuditLog:
    """The one writer of one chain. Rows are committed together: one fdatasync serves all that wait for it."""

    def __init__(self, folder: str | Path, writer: str, *, anchors: str | None = None, unique: bool = False) -> None:
        """Open `<folder>/<writer>.jsonl`. unique: take writer-2, writer-3, … where another process holds the name.

        A half-written last line, which a crash leaves, is cut off and the repair recorded. Raises StorageError.
        """
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.writer, self._file = _lock(self.folder, writer, unique)
        except OSError as error:
            raise StorageError(f"can't open the audit log in {self.folder}: {error.strerror}") from None
        self._anchors = Anchors(self.folder, anchors)
        self._broken: BaseException | None = None
        self._queue: SimpleQueue[tuple[tuple[str, str, str, dict[str, Any]], Future[AuditRow]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        torn, (self._seq, self._head) = _cut_torn(self._file), _last(self.folder / f"{self.writer}{SUFFIX}")
        self._anchored = self._seq
        self._thread = threading.Thread(target=self._commit_groups, name=f"audit-{self.writer}", daemon=True)
        self._thread.start()
        if torn:
            details = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
            self.append("repaired", "audit", self.writer, details)

    def append(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> AuditRow:
        """Add a row; returns when it is durable."""
        return self.submit(kind, actor, subject, details).result()

    def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[AuditRow]:
        """Add a row; the future is done when it is durable, and fails where it can't be made so."""
        future: Future[AuditRow] = Future()
        with self._lock:
            if self._closed:
                raise StorageError(f"the audit log {self.writer} is closed")
            self._queue.put(((kind, actor, subject, details), future))
        return future

    def anchor_now(self) -> int:
        """Anchor the head as it is; returns its row number."""
        if self._seq:
            self._anchors.add(self.writer, self._seq, self._head)
        return self._seq

    def close(self) -> None:
        """Commit what waits, anchor the head, give the chain up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        if self._broken is None and self._seq > self._anchored:
            self._anchor()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit_groups(self) -> None:
        last_anchor = datetime.now(UTC)
        open_end = True
        while open_end:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            open_end = None not in group
            self._commit([item for item in group if item is not None])
            age_s = (datetime.now(UTC) - last_anchor).total_seconds()
            due = self._seq - self._anchored >= ANCHOR_ROWS or age_s > ANCHOR_INTERVAL_S
            if self._broken is None and self._seq > self._anchored and due:
                self._anchor()
                last_anchor = datetime.now(UTC)

    def _anchor(self) -> None:
        """Anchor the head. Rows stay uncovered, which `verify` shows, while the place can't be reached."""
        try:
            self._anchors.add(self.writer, self._seq, self._head)
        except (OSError, StorageError) as error:
            logger.warning("audit chain %s could not be anchored at %s: %s", self.writer, self._anchors.place, error)
            return
        self._anchored = self._seq

    def _commit(self, group: list[tuple[tuple[str, str, str, dict[str, Any]], Future[AuditRow]]]) -> None:
        rows, seq, head = [], self._seq, self._head
        try:
            if self._broken is not None:
                raise self._broken
            for (kind, actor, subject, details), _ in group:
                row = AuditRow.make(seq + 1, kind, actor, subject, details, head)
                rows.append(row)
                seq, head = row.seq, row.hash
            self._file.write(b"".join(row.line() for row in rows))
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except Exception as error:
            # what is on disk is unknown now: nothing more is acknowledged until the log is opened and checked anew
            self._broken = error
            for _, future in group:
                future.set_exception(error)
            return
        self._seq, self._head = seq, head
        for (_, future), row in zip(group, rows, strict=True):
            future.set_result(row)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line numbers and rows of a chain's file, one at a time; None where a line is no row."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            yield number, value if isinstance(value, dict) and set(value) == set(AuditRow._fields) else None


def _lock(folder: Path, writer: str, unique: bool) -> tuple[str, Any]:
    """Open a chain's file for this process alone."""
    number = 1
    while True:
        name = writer if number == 1 else f"{writer}-{number}"
        file = open(folder / f"{name}{SUFFIX}", "ab", buffering=1 << 20)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            if not unique:
                raise StorageError(
                    f"another process writes the audit chain '{writer}' in {folder}: end it, or use another name"
                ) from None
            number += 1
            continue
        return name, file


def _cut_torn(file: Any) -> bytes:
    """Cut a last line without an end off the file; returns what was cut."""
    path = Path(file.name)
    content_end = path.stat().st_size
    with open(path, "rb") as reader:
        position = content_end
        tail = b""
        while position > 0 and b"\n" not in tail:
            start = max(0, position - 65536)
            reader.seek(start)
            tail = reader.read(position - start) + tail
            position = start
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn:
        os.ftruncate(file.fileno(), content_end - len(torn))
        os.fsync(file.fileno())
    return torn


def _last(path: Path) -> tuple[int, str]:
    """Sequence number and hash of the last row; raises StorageError where the end is no row."""
    last: dict[str, Any] | None = None
    for number, row in read_rows(path):
        if row is None:
            raise StorageError(f"{path}:{number} is no audit row: run `raysafe audit verify`, then move the file away")
        last = row
    return (last["seq"], last["hash"]) if last else (0, GENESIS)
