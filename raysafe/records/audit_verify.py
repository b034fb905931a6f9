"""Verifying the audit log: every chain link by link, and its anchored heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raysafe.errors import StorageError
from raysafe.records.anchors import Anchors
from raysafe.records.audit_chain import GENESIS, SUFFIX, read_lines, row_hash


class ChainReport(NamedTuple):
    """What one chain's check found."""

    writer: str
    rows: int
    anchored: int
    """Rows up to here are covered by a signed anchor."""
    problems: list[str]
    note: str = ""
    """What is no sign of tampering."""

    @property
    def uncovered(self) -> str:
        """The rows that no anchor covers yet: cutting them off would not be noticed."""
        return f"{self.anchored + 1} to {self.rows}" if self.rows > self.anchored else ""


def verify(
    folder: str | Path, anchors: str | None = None, *, only: Callable[[str], bool] = lambda writer: True
) -> list[ChainReport]:
    """Check every chain in `folder` and every anchor; one row in memory at a time. Raises StorageError.

    only: which writers' chains, all by default.
    """
    root = Path(folder)
    place = Anchors(root, anchors)
    try:
        present = {path.name.removesuffix(SUFFIX) for path in root.glob(f"*{SUFFIX}")}
        writers = sorted(filter(only, present | set(place.writers())))
        return [_verify_chain(root, writer, place) for writer in writers]
    except OSError as error:
        raise StorageError(f"can't read the audit log in {root}: {error}") from None


def _verify_chain(root: Path, writer: str, place: Anchors) -> ChainReport:
    anchored, problems = _read_anchors(place, writer)
    last_anchor = max(anchored, default=0)
    path = root / f"{writer}{SUFFIX}"
    if not path.exists():
        return ChainReport(writer, 0, last_anchor, [*problems, f"the chain is gone, {last_anchor} rows were anchored"])
    head, rows, note = GENESIS, 0, ""
    for number, row, ended in read_lines(path):
        if not ended:
            # it can only be the last one; where it was an anchored row, that row is missed below
            note = f"line {number} is unfinished: a write under way, or a crash"
            break
        broken = _broken_link(number, row, rows, head, anchored)
        if broken or row is None:
            return ChainReport(writer, rows, last_anchor, [*problems, broken], note)
        rows, head = row["seq"], row["hash"]
    if rows < last_anchor:
        problems.append(f"rows {rows + 1} to {last_anchor} were cut off the end")
    return ChainReport(writer, rows, last_anchor, problems, note)


def _broken_link(number: int, row: dict[str, Any] | None, before: int, head: str, anchored: dict[int, str]) -> str:
    """What is wrong with a line that follows row `before`, whose hash is `head`; nothing where all is right."""
    if row is None:
        return f"line {number} is no audit row"
    if row["hash"] != row_hash(row):
        return f"row {row['seq']} was changed (line {number})"
    if row["seq"] != before + 1 or row["prev"] != head:
        return f"rows were removed, added or moved before row {row['seq']} (line {number})"
    if anchored.get(row["seq"], row["hash"]) != row["hash"]:
        return f"rows up to {row['seq']} were rewritten: the anchor there holds another hash"
    return ""


def _read_anchors(place: Anchors, writer: str) -> tuple[dict[int, str], list[str]]:
    """Hashes of the rows that right anchors cover, by row, and what is wrong with the others.

    They are read before the rows, so that a chain that is being written is ahead of them. About 100 bytes for each.
    """
    key, wrong_key = place.trusted_key()
    anchored: dict[int, str] = {}
    problems: list[str] = []
    for anchor in place.of(writer, key):
        if anchor["seq"] > 0:
            anchored[anchor["seq"]] = anchor["hash"]
        if anchor["problem"]:
            problems.append(anchor["problem"])
    if wrong_key and (anchored or problems):
        problems.insert(0, wrong_key)
    return anchored, problems
