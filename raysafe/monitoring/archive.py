"""Moving windows from the store into the history, under the lease; the store keeps the newest for live figures."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete

from raysafe.monitoring.history import compact, flush
from raysafe.monitoring.lease import Lease
from raysafe.monitoring.window_store import read_windows
from raysafe.records.monitor_tables import MonitorRow, WindowRow
from raysafe.records.store import Store, store_now

LIVE_S = 300.0


def archive(store: Store, lease: Lease, folder: Path) -> int:
    """Write what is new to the history, then forget what is old in the store; how many windows were written.

    Raises StorageError, and then it is all to be done again.
    """
    with store.reading() as session:
        row = session.get(MonitorRow, lease.name)
        if row is None or row.holder != lease.holder:
            return 0
        found = read_windows(session, row.archived_up_to, limit=20_000)
        today = store_now(session).date()
    flush(folder, found)
    compact(folder, today)
    with store.session(alone=True) as session:
        row = lease.held(session)
        if row is None:
            return 0
        if found:
            row.archived_up_to = found[-1].id
        done = min(row.archived_up_to, row.read_up_to)
        old = store_now(session) - timedelta(seconds=LIVE_S)
        session.execute(delete(WindowRow).where(WindowRow.id <= done, WindowRow.written < old))
    return len(found)
