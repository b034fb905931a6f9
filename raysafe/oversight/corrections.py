"""A person's corrections of answers: what should have been said. They live in the audit log alone, text and all, for
whoever can write the store could otherwise teach a model what to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from raysafe.control.people import same_person
from raysafe.errors import ConfigError
from raysafe.records.audit import AuditLog
from raysafe.records.audit_chain import SUFFIX, read_rows

CHAIN = "corrections"
"""Writer of corrections in the audit log; corrections-2, … where several people correct at a time."""
LONGEST = 100_000
"""Characters of a correction."""


class Correction(NamedTuple):
    """What a person says that the model should have answered."""

    incident: str
    answer: str
    by: str
    note: str
    time: str
    row: str
    """Hash of its row in the audit log."""


def correct(folder: Path, incident: str, answer: str, *, by: str, note: str, asked_by: str) -> Correction:
    """Record a correction, durably; a later one of the same incident takes its place.

    asked_by: the key that the corrected exchange was asked with. Raises ConfigError for an answer that is empty or too
    long, or where the one who corrects is the one who asked.
    """
    text = answer.strip()
    if not text or len(text) > LONGEST:
        raise ConfigError(f"a correction has 1 to {LONGEST:,} characters, got {len(text):,}: give another --answer")
    if same_person(by, asked_by):
        raise ConfigError(f"'{by}' asked for what is to be corrected: somebody else corrects it")
    with AuditLog(folder, writer=CHAIN, unique=True) as log:
        row = log.append("corrected", by, incident, {"answer": text, "note": note})
    return Correction(incident, text, by, note, row.time, row.hash)


def read_corrections(folder: Path, writers: Iterable[str]) -> dict[str, Correction]:
    """The newest correction of each incident in these chains."""
    newest: dict[str, Correction] = {}
    for writer in writers:
        path = folder / f"{writer}{SUFFIX}"
        for _, row in read_rows(path) if path.exists() else ():
            if row is not None and row["kind"] == "corrected":
                found = _correction(row)
                known = newest.get(found.incident)
                if known is None or known.time <= found.time:
                    newest[found.incident] = found
    return newest


def is_correction_chain(writer: str) -> bool:
    return re.fullmatch(rf"{CHAIN}(-\d+)?", writer) is not None


def _correction(row: dict[str, Any]) -> Correction:
    details = row["details"]
    return Correction(
        row["subject"], str(details["answer"]), row["actor"], str(details["note"]), row["time"], row["hash"]
    )
