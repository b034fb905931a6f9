"""Gateways' windows in the store: written by each gateway, read in order by the monitor, and swept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from raysafe.monitoring.windows import Window
from raysafe.records.monitor_tables import WindowRow
from raysafe.records.store import Store, store_now

KEPT_S = 3600.0
"""How long the store keeps a window where no monitor has put it into the history."""


class Observed(NamedTuple):
    """A window as the store has it."""

    id: int
    service: str
    gateway: str
    start: datetime
    window: Window


def write_windows(store: Store, service: str, gateway: str, windows: Sequence[tuple[datetime, Window]]) -> None:
    """Add a gateway's windows, in one transaction, and sweep those that are older than KEPT_S. Raises StorageError."""
    # alone: ids must become visible in their order, for readers go on after the last that they saw
    with store.session(alone=True) as session:
        now = store_now(session)
        for start, window in windows:
            session.add(WindowRow(service=service, gateway=gateway, start=start, written=now, body=window.body()))
        session.execute(delete(WindowRow).where(WindowRow.written < now - timedelta(seconds=KEPT_S)))


def read_windows(session: Session, after: int, service: str | None = None, limit: int = 1000) -> list[Observed]:
    """The windows that were written after the one of this id, in order."""
    query = select(WindowRow).where(WindowRow.id > after).order_by(WindowRow.id).limit(limit)
    if service is not None:
        query = query.where(WindowRow.service == service)
    return [_read(row) for row in session.scalars(query)]


def recent_windows(session: Session, last_s: float, service: str | None = None) -> list[Observed]:
    """Those that were written in the last seconds, by the store's clock."""
    since = store_now(session) - timedelta(seconds=last_s)
    query = select(WindowRow).where(WindowRow.written >= since).order_by(WindowRow.id)
    if service is not None:
        query = query.where(WindowRow.service == service)
    return [_read(row) for row in session.scalars(query)]


def newest_window(session: Session) -> int:
    return session.scalar(select(func.max(WindowRow.id))) or 0


def _read(row: WindowRow) -> Observed:
    return Observed(row.id, row.service, row.gateway, row.start, Window.read(row.body))
