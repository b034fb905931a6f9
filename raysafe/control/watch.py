"""What a gateway shares through the store, by one poll: its lease, kill orders, interventions, and the API keys.

Every RENEW_S one short transaction renews the lease and reads the number of the last change; only a new number makes
it read orders, interventions, audit log and keys again. A store that can't be reached, or that answers late, closes the
gateway.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy.orm import Session

from raysafe.control.intervention import Intervention
from raysafe.control.intervention_log import InterventionLog, standing
from raysafe.control.intervention_orders import read_interventions
from raysafe.control.key_store import end_expired, read_keys
from raysafe.control.keys import Key, KeyRing
from raysafe.control.kill_log import KillLog, Order
from raysafe.control.kill_orders import Stored, in_force, read_orders
from raysafe.control.killswitch import Closing, KillSwitch, State, own_clock
from raysafe.control.leases import LEASE_S, RENEW_S, give_back, renew
from raysafe.control.measures import NONE, Measures
from raysafe.control.revision import bump, read_revision
from raysafe.errors import RaySafeError, StorageError
from raysafe.records.audit import audit_folder
from raysafe.records.control_tables import LeaseRow
from raysafe.records.store import Store, store_now

logger = logging.getLogger(__name__)
RETRY_S = 0.1
NEVER = -1


class _Look(NamedTuple):
    """What one transaction read."""

    number: int
    now: datetime
    """By the store's clock."""
    changed: tuple[list[Stored], list[Intervention], list[Key]] | None
    """Orders, interventions and keys, where `number` is not the one that is followed already."""


class ControlPlane:
    """Made in the gateway's own process, for it has threads."""

    def __init__(self, store_url: str, service: str, *, names: Iterable[str] = (), audit: Path | None = None) -> None:
        """service: the name that clients ask for. names: others by which a kill order reaches it.

        audit: folder of the audit log; the store's by default. Raises StorageError for a URL of no store; touches
        nothing yet.
        """
        self._url = store_url
        self._audit = audit or audit_folder(store_url)
        self._names = frozenset({service, *names})
        place = f"{socket.gethostname()}, process {os.getpid()}"
        self._lease = LeaseRow(
            holder=uuid4().hex, service=service, names=sorted(self._names), place=place, seen=NEVER, renewals=0
        )
        self._store: Store | None = None
        self._followed = NEVER
        self._order: Order | None = None
        self._standing: list[Intervention] = []
        self._switch = KillSwitch()
        self._stop, self._looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._poll, name="control-plane", daemon=True)
        self.keys = KeyRing()
        self.measures = NONE
        """What the interventions that are in force ask of this gateway; it is replaced as a whole."""

    def start(self, wait_s: float = 5.0) -> None:
        """Begin to poll; returns after the first look, or after `wait_s`. Never raises for a store out of reach."""
        self._switch.start()
        self._thread.start()
        self._looked.wait(wait_s)

    def stop(self) -> None:
        """Close for good and give the lease back."""
        self._stop.set()
        self._switch.end("the service is stopping")
        if self._thread.is_alive():
            self._thread.join(2 * LEASE_S)

    @property
    def closed(self) -> str | None:
        """Why nothing may be answered now; None while the gateway is open."""
        return self._switch.closed

    def state(self) -> State:
        return self._switch.state()

    def on_close(self, callback: Closing) -> Callable[[], None]:
        """Call back at each change to closed, from another thread; see KillSwitch.on_close."""
        return self._switch.on_close(callback)

    def _poll(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            begun = own_clock()
            try:
                changed = self._look(begun)
                # a change is confirmed at once, for who made it waits
                pause = 0.0 if changed else max(0.0, begun + RENEW_S - own_clock())
            except Exception as error:
                if not isinstance(error, RaySafeError):
                    logger.exception("the kill switch can't be read")
                self._switch.failed(str(error) if isinstance(error, RaySafeError) else type(error).__name__)
                self._let_go()
                pause = RETRY_S
            self._looked.set()
        if self._store is not None:
            with suppress(StorageError), self._store.session() as session:
                give_back(session, self._lease.holder)
            self._let_go()

    def _look(self, begun: float) -> bool:
        """One look at the store and what follows from it; whether there was a change."""
        store = self._open()
        with store.session() as session:
            look = self._read(session)
        store.check_place()
        if look.changed is not None:
            stored, interventions, keys = look.changed
            orders = in_force(stored, KillLog(self._audit))
            self._order = next((order for order in orders if order.concerns(self._names)), None)
            self._standing = standing(interventions, InterventionLog(self._audit))
            self.keys.replace(keys)
            self._followed = look.number
        # at every look, for interventions begin and end by the clock
        measures = Measures.of(self._standing, self._names, look.now)
        if measures != self.measures:
            self.measures = measures
        self._switch.renewed(begun, self._order)
        # only now is it true that the change is followed: the next renewal says so
        self._lease.seen = self._followed
        return look.changed is not None

    def _read(self, session: Session) -> _Look:
        now = store_now(session)
        renew(session, self._lease, now)
        if end_expired(session, now):
            bump(session)
        number = read_revision(session)
        if number == self._followed:
            return _Look(number, now, None)
        return _Look(number, now, (read_orders(session), read_interventions(session), read_keys(session)))

    def _open(self) -> Store:
        """The store, opened anew after a failure. A file that is gone is not made anew: its orders are gone with it."""
        if self._store is None:
            self._store = Store(self._url, wait_s=RENEW_S, make=False)
        return self._store

    def _let_go(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store, self._followed = None, NEVER
