"""The audit log: one hash-chained, append-only file per writer, durable before anything acts on it.

Rows and files are audit_chain.py's; heads are signed and anchored in a second place (anchors.py), so that a cut-off
end is found too; audit_verify.py checks both.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from raysafe.errors import DataError, StorageError
from raysafe.records.anchors import Anchors
from raysafe.records.audit_chain import (
    SUFFIX,
    AuditRow,
    Content,
    canonical,
    cut_torn,
    last_row,
    open_chain,
    read_rows,
    write_all,
    write_row,
)

__all__ = ["SUFFIX", "AuditLog", "AuditRow", "audit_folder", "canonical", "read_rows"]

logger = logging.getLogger(__name__)
ANCHOR_ROWS = 256
ANCHOR_INTERVAL_S = 60.0
"""An anchor is due after this many rows, or this long after the last one, whichever comes first."""

Waiting = tuple[Content, Future[AuditRow]]


def audit_folder(store_url: str) -> Path:
    """RAYSAFE_AUDIT, or audit/ beside a SQLite store, or runs/audit. Raises StorageError for a URL of no store."""
    from raysafe.records.store import parse_url

    if os.environ.get("RAYSAFE_AUDIT"):
        return Path(os.environ["RAYSAFE_AUDIT"])
    url = parse_url(store_url)
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(url.database).parent / "audit"
    return Path("runs", "audit").absolute()


class AuditLog:
    """The one writer of one chain. Rows are committed together: one fdatasync serves all that wait for it."""

    def __init__(self, folder: str | Path, writer: str, *, anchors: str | None = None, unique: bool = False) -> None:
        """Open `<folder>/<writer>.jsonl`. unique: take writer-2, writer-3, … where another process holds the name.

        A half-written last line, which a crash leaves, is cut off and the repair recorded. Raises StorageError, also
        where the chain ends before its last anchor: going on would bury what was done to it.
        """
        self.folder = Path(folder)
        self._anchors = Anchors(self.folder, anchors)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.writer, self._file = open_chain(self.folder, writer, unique)
        except OSError as error:
            raise StorageError(f"can't open the audit log in {self.folder}: {error.strerror}") from None
        try:
            torn = cut_torn(self._file)
            self._tip = last_row(self._file, self.folder / f"{self.writer}{SUFFIX}")
            self._anchored = self._last_anchored()
        except BaseException:
            os.close(self._file)
            raise
        self._end = os.fstat(self._file).st_size
        self._broken: Exception | None = None
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._lock, self._anchoring = threading.Lock(), threading.Lock()
        self._anchor_due, self._stop = threading.Event(), threading.Event()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._commit_groups, name=f"audit-{self.writer}", daemon=True),
            threading.Thread(target=self._keep_anchored, name=f"anchors-{self.writer}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if torn:
            details = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
            self.append("repaired", "audit", self.writer, details)

    def append(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> AuditRow:
        """Add a row; returns when it is durable."""
        return self.submit(kind, actor, subject, details).result()

    def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[AuditRow]:
        """Add a row; the future is done when it is durable, and fails where it can't be made so.

        The future can't be cancelled: a row that was handed over is written.
        """
        future: Future[AuditRow] = Future()
        future.set_running_or_notify_cancel()
        try:
            content = Content.of(kind, actor, subject, details)
        except (TypeError, ValueError, RecursionError) as error:
            # this row's fault alone: the log goes on
            future.set_exception(DataError(f"audit row '{kind}' of {subject} can't be written as JSON: {error}"))
            return future
        with self._lock:
            if self._closed:
                raise StorageError(f"the audit log {self.writer} is closed")
            self._queue.put((content, future))
        return future

    def anchor_now(self) -> int:
        """Anchor the head as it is; returns its row number. Raises StorageError where the place can't be written."""
        with self._anchoring:
            seq, head = self._tip
            if seq > self._anchored:
                self._anchors.add(self.writer, seq, head)
                self._anchored = seq
            return seq

    def close(self) -> None:
        """Commit what waits, anchor the head, give the chain up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._threads[0].join()
        self._stop.set()
        self._anchor_due.set()
        self._threads[1].join()
        self._try_anchor()
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_anchored(self) -> int:
        """The row of the latest anchor; raises StorageError where the chain doesn't reach it."""
        try:
            latest = self._anchors.latest(self.writer)
        except StorageError as error:
            logger.warning("the anchors of audit chain %s can't be read: %s", self.writer, error)
            return 0
        seq, head = self._tip
        if latest and (latest["seq"] > seq or (latest["seq"] == seq and latest["hash"] != head)):
            raise StorageError(
                f"audit chain '{self.writer}' in {self.folder} ends at row {seq}, and not as its anchor of row "
                f"{latest['seq']} in {self._anchors.place} says: run `raysafe audit verify`, keep both as evidence "
                "(move the chain's file and its folder of anchors away), or anchor in another place"
            )
        return latest["seq"] if latest else 0

    def _commit_groups(self) -> None:
        open_end = True
        while open_end:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            open_end = None not in group
            self._commit([item for item in group if item is not None])
            if self._tip[0] - self._anchored >= ANCHOR_ROWS:
                self._anchor_due.set()

    def _commit(self, group: list[Waiting]) -> None:
        rows, lines, (seq, head) = [], [], self._tip
        try:
            if self._broken is not None:
                raise self._broken
            for content, _ in group:
                row, line = write_row(seq + 1, head, content)
                rows.append(row)
                lines.append(line)
                seq, head = row.seq, row.hash
            written = b"".join(lines)
            if written:
                write_all(self._file, written)
        except Exception as error:
            self._refuse(error, group)
            return
        self._tip, self._end = (seq, head), self._end + len(written)
        for (_, future), row in zip(group, rows, strict=True):
            future.set_result(row)

    def _refuse(self, error: Exception, group: list[Waiting]) -> None:
        """Fail these rows and all that follow, until the log is opened and its end read anew."""
        if self._broken is None:
            self._broken = error
            try:
                # rows that were refused must not stand there as if they had been acted on
                os.ftruncate(self._file, self._end)
            except OSError as second:
                logger.warning("audit chain %s may end in rows that were refused: %s", self.writer, second)
        for _, future in group:
            future.set_exception(self._broken)

    def _keep_anchored(self) -> None:
        """Anchor in a thread of its own: a slow second place delays no row."""
        while not self._stop.is_set():
            self._anchor_due.wait(ANCHOR_INTERVAL_S)
            self._anchor_due.clear()
            if not self._stop.is_set() and not self._try_anchor():
                self._stop.wait(ANCHOR_INTERVAL_S)

    def _try_anchor(self) -> bool:
        """Anchor the head. Rows stay uncovered, which `verify` shows, while the place can't be reached."""
        try:
            self.anchor_now()
        except Exception as error:
            logger.warning("audit chain %s could not be anchored at %s: %s", self.writer, self._anchors.place, error)
            return False
        return True
