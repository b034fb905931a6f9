"""Silences: for a time, nobody is told of the alerts that one matches, and none of them escalates."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.errors import ConfigError
from raysafe.monitoring.alerts import CHAIN
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.monitor_tables import SilenceRow
from raysafe.records.store import Store, store_now

LONGEST_S = 30 * 86_400.0
"""What is quiet for longer should be a change of the rules, which are versioned."""


class Silence(NamedTuple):
    """An empty rule or service matches all."""

    id: str
    rule: str
    service: str
    by: str
    reason: str
    created: datetime
    until: datetime

    def matches(self, rule: str, service: str) -> bool:
        return self.rule in ("", rule) and self.service in ("", service)

    def __str__(self) -> str:
        return f"silenced by {self.by} until {self.until:%Y-%m-%d %H:%M}: {self.reason}"


def silence(
    store: Store,
    *,
    rule: str = "",
    service: str = "",
    duration_s: float,
    by: str,
    reason: str,
    audit: Path | None = None,
) -> Silence:
    """Silence a rule's alerts, a service's, or where both are given those of the rule on the service.

    Raises ConfigError where neither is given, without name and reason, or for too long a time.
    """
    if not by.strip() or not reason.strip():
        raise ConfigError("a silence needs a name and a reason: give --by and --reason")
    if not rule and not service:
        raise ConfigError("what is to be silent? Give --rule, --service, or both")
    if not 0 < duration_s <= LONGEST_S:
        raise ConfigError(f"a silence lasts up to {LONGEST_S / 86_400:g} days, got {duration_s:g} s: change the rules")
    with _log(store, audit) as log, store.session() as session:
        now = store_now(session)
        row = SilenceRow(
            id=f"si-{token_hex(5)}",
            rule=rule,
            service=service,
            by=by,
            reason=reason,
            created=now,
            until=now + timedelta(seconds=duration_s),
        )
        details = {"rule": rule, "service": service, "reason": reason, "until": row.until.isoformat()}
        log.append("silenced", by, row.id, details)
        session.add(row)
        return _read(row)


def end_silence(store: Store, silence_id: str, *, by: str, audit: Path | None = None) -> Silence:
    """End it now; raises ConfigError for one that isn't there or has ended."""
    with _log(store, audit) as log, store.session() as session:
        row, now = session.get(SilenceRow, silence_id, with_for_update=True), store_now(session)
        if row is None or row.until <= now:
            raise ConfigError(f"no silence '{silence_id}' is in force: `raysafe monitor silence --list` shows them")
        log.append("silence ended", by, row.id, {"rule": row.rule, "service": row.service})
        row.until = now
        return _read(row)


def list_silences(store: Store) -> list[Silence]:
    """Those in force, the first to end first."""
    with store.reading() as session:
        return read_silences(session, store_now(session))


def read_silences(session: Session, now: datetime) -> list[Silence]:
    rows = session.scalars(select(SilenceRow).where(SilenceRow.until > now).order_by(SilenceRow.until))
    return [_read(row) for row in rows]


def _log(store: Store, audit: Path | None) -> AuditLog:
    return AuditLog(audit or audit_folder(store.url), writer=CHAIN, unique=True)


def _read(row: SilenceRow) -> Silence:
    return Silence(**{name: getattr(row, name) for name in Silence._fields})
