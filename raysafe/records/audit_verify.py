"""Verifying the audit log: every chain link by link, and its anchored heads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from raysafe.records.anchors import Anchors
from raysafe.records.audit import GENESIS, SUFFIX, read_rows, row_hash


class ChainReport(NamedTuple):
    """What one chain's check found."""

    writer: str
    rows: int
    anchored: int
    """Rows up to here are covered by a signed anchor."""
    problems: list[str]

    @property
    def uncovered(self) -> str:
        """The rows that no anchor covers yet: cutting them off would not be noticed."""
        return f"{self.anchored + 1} to {self.rows}" if self.rows > self.anchored else ""


def verify(folder: str | Path, anchors: str | None = None) -> list[ChainReport]:
    """Check every chain in `folder` and every anchor; one row in memory at a time."""
    root = Path(folder)
    place = Anchors(root, anchors)
    present = {path.name.removesuffix(SUFFIX) for path in root.glob(f"*{SUFFIX}")}
    return [_verify_chain(root, writer, place) for writer in sorted(present | set(place.writers()))]


def _verify_chain(root: Path, writer: str, place: Anchors) -> ChainReport:
    problems: list[str] = []
    anchored: dict[int, str] = {}
    for anchor in place.of(writer):
        if anchor["problem"]:
            problems.append(anchor["problem"])
        else:
            anchored[anchor["seq"]] = anchor["hash"]
    last_anchor = max(anchored, default=0)
    path = root / f"{writer}{SUFFIX}"
    if not path.exists():
        return ChainReport(writer, 0, last_anchor, [*problems, f"the chain is gone, {last_anchor} rows were anchored"])
    head, rows = GENESIS, 0
    for number, row in read_rows(path):
        if row is None:
            problems.append(f"line {number} is no audit row")
            break
        if row["hash"] != row_hash(row):
            problems.append(f"row {row['seq']} was changed (line {number})")
            break
        if row["seq"] != rows + 1 or row["prev"] != head:
            problems.append(f"rows were removed, added or moved before row {row['seq']} (line {number})")
            break
        rows, head = row["seq"], row["hash"]
        if anchored.get(rows, head) != head:
            problems.append(f"rows up to {rows} were rewritten: the anchor there holds another hash")
            break
    else:
        if rows < last_anchor:
            problems.append(f"rows {rows + 1} to {last_anchor} were cut off the end")
    return ChainReport(writer, rows, last_anchor, problems)
