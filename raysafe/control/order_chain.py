"""Reading the audit chains of orders, on which what gateways do depends: verified first, then row by row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from raysafe.records.audit_chain import SUFFIX, read_rows
from raysafe.records.audit_verify import verify


class OrderChain(NamedTuple):
    """The rows of one kind of order, and what is wrong with their chains."""

    rows: list[dict[str, Any]]
    problems: list[str]


def read_order_chain(folder: Path, chain: str) -> OrderChain:
    """The chain of a writer's name, and those of that name with a number, which wrote at the same time.

    Reads no other chain. Raises StorageError where the log or its anchors can't be read.
    """
    reports = verify(folder, only=lambda writer: is_chain(writer, chain))
    problems = [f"{report.writer}: {problem}" for report in reports for problem in report.problems]
    return OrderChain([row for report in reports for row in _rows(folder / f"{report.writer}{SUFFIX}")], problems)


def is_chain(writer: str, chain: str) -> bool:
    return re.fullmatch(rf"{chain}(-\d+)?", writer) is not None


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [row for _, row in read_rows(path) if row is not None and isinstance(row["details"], dict)]
