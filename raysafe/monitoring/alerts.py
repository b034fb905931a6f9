"""Alerts in the store, for people: what is open, and saying that one is being looked at, or is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from raysafe.errors import ConfigError
from raysafe.monitoring.alert import Alert, read_alert
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.monitor_tables import AlertRow
from raysafe.records.store import Store, store_now

CHAIN = "alerts"
"""Writer of what people say of alerts in the audit log; alerts-2, … where several write at a time."""


def list_alerts(store: Store, *, service: str | None = None, everything: bool = False, limit: int = 200) -> list[Alert]:
    """Alerts that aren't resolved, newest first. everything: the resolved ones too."""
    query = select(AlertRow).order_by(AlertRow.opened.desc(), AlertRow.id).limit(limit)
    if service is not None:
        query = query.where(AlertRow.service == service)
    if not everything:
        query = query.where(AlertRow.resolved.is_(None))
    with store.reading() as session:
        return [read_alert(row) for row in session.scalars(query)]


def get_alert(store: Store, alert_id: str) -> Alert | None:
    with store.reading() as session:
        row = session.get(AlertRow, alert_id)
        return None if row is None else read_alert(row)


def acknowledge(store: Store, alert_id: str, *, by: str, note: str, audit: Path | None = None) -> Alert:
    """Say that somebody looks at it: it escalates no further. The audit row is durable first.

    Raises ConfigError for an unknown or resolved alert, one that is acknowledged already, or without name and note.
    """
    return _say(store, alert_id, "alert acknowledged", by, note, audit)


def resolve(store: Store, alert_id: str, *, by: str, note: str, audit: Path | None = None) -> Alert:
    """Say that it is over; the rule may open another. The audit row is durable first.

    Raises ConfigError for an unknown or resolved alert, or without name and note.
    """
    return _say(store, alert_id, "alert resolved", by, note, audit)


def _say(store: Store, alert_id: str, kind: str, by: str, note: str, audit: Path | None) -> Alert:
    if not by.strip() or not note.strip():
        raise ConfigError("say who and why: give --by and --note")
    if len(by) > 200:
        raise ConfigError("a name has at most 200 characters")
    with AuditLog(audit or audit_folder(store.url), writer=CHAIN, unique=True) as log, store.session() as session:
        row = session.get(AlertRow, alert_id, with_for_update=True)
        if row is None:
            raise ConfigError(f"no alert is called '{alert_id}': `raysafe monitor alerts` shows them")
        if row.resolved is not None:
            raise ConfigError(f"'{alert_id}' is over: {row.resolved_by} resolved it at {row.resolved:%Y-%m-%d %H:%M}")
        if kind == "alert acknowledged" and row.acknowledged is not None:
            raise ConfigError(f"'{alert_id}' was acknowledged by {row.acknowledged_by} already")
        log.append(kind, by, row.id, {"rule": row.rule, "service": row.service, "note": note})
        _set(row, kind, by, note, store_now(session))
        return read_alert(row)


def _set(row: AlertRow, kind: str, by: str, note: str, now: Any) -> None:
    row.note = note
    if kind == "alert resolved":
        row.resolved, row.resolved_by = now, by
    else:
        row.acknowledged, row.acknowledged_by = now, by
