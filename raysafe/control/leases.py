"""Leases: which gateways are alive, and which of them have seen a change.

A lease in the store tells others; what closes a gateway is its own clock (killswitch.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from raysafe.records.control_tables import LeaseRow
from raysafe.records.store import Store, store_now

LEASE_S = 1.0
"""What a gateway may answer without another look at the store."""
RENEW_S = 0.4
FORGET_S = 60.0
"""A lease that ran out this long ago is swept away by another gateway."""
SWEEP_EVERY = 100
_LOOK_S = 0.05

Confirmation = Literal["seen", "lapsed", "waiting"]
"""seen: it follows the change. lapsed: its lease ran out unrenewed, and it closed by itself."""


class Holder(NamedTuple):
    """A gateway as its lease shows it."""

    holder: str
    service: str
    names: tuple[str, ...]
    place: str
    seen: int
    renewals: int
    live: bool
    """Whether the lease had not run out, by the store's clock."""


def renew(session: Session, lease: LeaseRow, now: datetime) -> None:
    """Write a lease anew for LEASE_S from `now`; it counts its renewals itself."""
    lease.renewals += 1
    lease.renewed, lease.expires = now, now + timedelta(seconds=LEASE_S)
    values = {name: getattr(lease, name) for name in ("seen", "renewals", "renewed", "expires")}
    query = update(LeaseRow).where(LeaseRow.holder == lease.holder).values(values)
    if session.scalars(query.returning(LeaseRow.holder)).first() is None:
        columns = {column.name: getattr(lease, column.name) for column in LeaseRow.__table__.columns}
        session.add(LeaseRow(**columns))
    if lease.renewals % SWEEP_EVERY == 1:
        session.execute(delete(LeaseRow).where(LeaseRow.expires < now - timedelta(seconds=FORGET_S)))


def give_back(session: Session, holder: str) -> None:
    session.execute(delete(LeaseRow).where(LeaseRow.holder == holder))


def holders(session: Session) -> list[Holder]:
    """All that have a lease, also those whose lease ran out."""
    now = store_now(session)
    rows = session.scalars(select(LeaseRow).order_by(LeaseRow.service, LeaseRow.place, LeaseRow.holder))
    return [Holder(r.holder, r.service, tuple(r.names), r.place, r.seen, r.renewals, now < r.expires) for r in rows]


def await_seen(
    store: Store,
    number: int,
    concerns: Callable[[Holder], bool] = lambda holder: True,
    *,
    wait_s: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[tuple[Holder, Confirmation]]:
    """How each gateway stands to change `number`, when none is waited for any more or `wait_s` has passed.

    One counts as lapsed when its lease was seen unrenewed for LEASE_S by this process's own clock: no clock's jump
    matters. Raises StorageError.
    """
    begun = clock()
    first: dict[str, tuple[Holder, float]] = {}
    while True:
        asked = clock()
        with store.reading() as session:
            found = [holder for holder in holders(session) if concerns(holder)]
        now = clock()
        confirmations = []
        for holder in found:
            before, since = first.get(holder.holder, (holder, now))
            if before.renewals != holder.renewals:
                before, since = holder, now
            first[holder.holder] = (before, since)
            confirmations.append((holder, _confirmation(holder, number, asked - since)))
        if now - begun >= wait_s or all(said != "waiting" for _, said in confirmations):
            return confirmations
        sleep(_LOOK_S)


def _confirmation(holder: Holder, number: int, unrenewed_s: float) -> Confirmation:
    if holder.seen >= number:
        return "seen"
    return "lapsed" if unrenewed_s >= LEASE_S else "waiting"
