"""What a committee did, as numbered events: rows of the audit log's chain `committee`, and of the store.

The log is the truth. An event that only the log holds was durable before a crash or a deletion, and counts; one that
only the store holds was forged, and nothing counts until it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.errors import StorageError
from raysafe.records.audit_chain import SUFFIX, canonical, read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.committee_table import CommitteeRow

Kind = Literal[
    "member requested",
    "member admitted",
    "member revoked",
    "policy set",
    "review opened",
    "assessed",
    "voted",
    "review closed",
]
CHAIN = "committee"
"""Writer of these events in the audit log; committee-2, … where several act at a time."""


class Event(NamedTuple):
    """One event. `time` is by the store's clock, and what deadlines are held to."""

    number: int
    kind: Kind
    actor: str
    subject: str
    body: dict[str, Any]
    time: datetime
    hash: str = ""

    def details(self) -> dict[str, Any]:
        """What the audit log's row holds of it."""
        return {"number": self.number, "time": self.time.isoformat(), "body": self.body}


def is_committee_chain(writer: str) -> bool:
    return re.fullmatch(rf"{CHAIN}(-\d+)?", writer) is not None


def logged_events(folder: Path) -> list[Event]:
    """The events in an audit log, in order; raises StorageError where the log is broken or says a thing twice."""
    reports = verify(folder, only=is_committee_chain)
    problems = [f"{report.writer}: {problem}" for report in reports for problem in report.problems]
    found: dict[int, Event] = {}
    for report in reports:
        path = folder / f"{report.writer}{SUFFIX}"
        for _, row in read_rows(path) if path.exists() else ():
            if row is None or row["kind"] not in get_args(Kind):
                continue
            details = row["details"]
            time = datetime.fromisoformat(details["time"])
            event = Event(
                details["number"], row["kind"], row["actor"], row["subject"], details["body"], time, row["hash"]
            )
            if event.number in found:
                problems.append(f"{report.writer}: event {event.number} is there twice")
            found[event.number] = event
    if sorted(found) != list(range(1, len(found) + 1)):
        problems.append("events are missing")
    if problems:
        raise StorageError(
            f"the audit log of the committee in {folder} is broken ({'; '.join(problems)}): see `raysafe audit verify`"
        )
    return [found[number] for number in sorted(found)]


def stored_events(session: Session) -> list[Event]:
    """The events that the store holds, in order."""
    return [_event(row) for row in session.scalars(select(CommitteeRow).order_by(CommitteeRow.number))]


def check_store(stored: Sequence[Event], logged: Sequence[Event], folder: Path) -> list[Event]:
    """The events that the store lacks; raises StorageError where it holds one that the log doesn't."""
    known = {event.number: event for event in logged}
    for event in stored:
        if event.number not in known or _spelled(event) != _spelled(known[event.number]):
            raise StorageError(
                f"the store says that {event.actor} did this ({event.kind}, event {event.number}), and the audit log "
                f"in {folder} doesn't: set RAYSAFE_AUDIT to the log that holds it, or remove the row, which was forged"
            )
    have = {event.number for event in stored}
    return [event for event in logged if event.number not in have]


def keep(session: Session, events: Sequence[Event]) -> None:
    """Put events into the store."""
    session.add_all(_row(event) for event in events)


def _row(event: Event) -> CommitteeRow:
    values = event._asdict()
    return CommitteeRow(audit_hash=values.pop("hash"), **values)


def _event(row: CommitteeRow) -> Event:
    values = {name: getattr(row, name) for name in Event._fields if name != "hash"}
    return Event(**values, hash=row.audit_hash)


def _spelled(event: Event) -> bytes:
    return canonical([event.kind, event.actor, event.subject, event.details(), event.hash])
