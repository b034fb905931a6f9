"""Who is in charge of a set of rules: one monitor, by a lease in the store; another waits until it runs out."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from uuid import uuid4

from sqlalchemy.orm import Session

from raysafe.records.monitor_tables import MonitorRow
from raysafe.records.store import Store, store_now

LEASE_S = 10.0
RENEW_S = 2.0


class Lease:
    """One process's claim on the rules of a name."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self.name = store, name
        self.holder = uuid4().hex
        self._place = f"{socket.gethostname()}, process {os.getpid()}"

    def take(self, label: str) -> bool:
        """Take it or renew it; whether this process has it now. label: of the rules in force. Raises StorageError."""
        with self._store.session(alone=True) as session:
            now, row = store_now(session), session.get(MonitorRow, self.name)
            if row is None:
                row = MonitorRow(name=self.name, read_up_to=0, archived_up_to=0, state={}, holder=None, expires=now)
                session.add(row)
            elif row.holder != self.holder and row.holder is not None and now < row.expires:
                return False
            row.holder, row.place, row.rules = self.holder, self._place, label
            row.expires = now + timedelta(seconds=LEASE_S)
            return True

    def held(self, session: Session) -> MonitorRow | None:
        """The monitor's row, locked until the transaction ends, where this process has the lease; else None."""
        row = session.get(MonitorRow, self.name, with_for_update=True)
        return row if row is not None and row.holder == self.holder else None

    def give_back(self) -> None:
        with self._store.session(alone=True) as session:
            row = self.held(session)
            if row is not None:
                row.holder = None
