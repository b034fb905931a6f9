"""The log that most tests of the audit start from."""

from __future__ import annotations

from pathlib import Path

from raysafe.records.audit import AuditLog

ROWS = 12


def closed_log(base: Path) -> Path:
    """The folder of a closed log of twelve rows, all anchored."""
    with AuditLog(base / "audit", "w") as log:
        for i in range(ROWS):
            log.append("verdict", "gateway", f"request {i}", {"score": i / 7, "text": "naïve ✓"})
    return base / "audit"
