"""What sinks are owed: a queue in the store, so that a restart loses nothing; each message is sent at least once."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from secrets import token_hex

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from raysafe.monitoring.lifecycle import Told
from raysafe.monitoring.sinks import NotTaken, Sink
from raysafe.records.monitor_tables import DeliveryRow
from raysafe.records.store import Store, store_now

logger = logging.getLogger(__name__)
GROUP = 50
FIRST_S, LONGEST_S = 1.0, 300.0
"""Waits between tries double from the first to the longest, each drawn from its upper half."""
KEPT_S = 7 * 86_400.0
"""How long a message is kept, delivered or not: what no sink took by then is given up, and logged."""


def enqueue(session: Session, events: Sequence[Told], now: datetime, group_wait_s: float) -> None:
    """Owe each sink its events, those of one group and service in one message, which waits for company."""
    for event in events:
        alert = event.alert
        record = {**alert.record(), "event": event.event}
        for sink in event.sinks:
            company = _company(session, sink, alert.group, alert.service, now)
            if company is not None:
                company.body = {**company.body, "events": [*company.body["events"], record]}
                session.flush()
                continue
            body = {"group": alert.group, "service": alert.service, "events": [record]}
            due = now + timedelta(seconds=group_wait_s)
            row = DeliveryRow(id=f"de-{token_hex(8)}", sink=sink, body=body, created=now, attempts=0, next_try=due)
            session.add(row)
            session.flush()


def deliver(store: Store, sinks: Mapping[str, Sink]) -> int:
    """Send what is due, and return how many messages were taken. What isn't taken is due again later."""
    with store.session(alone=True) as session:
        now = store_now(session)
        query = select(DeliveryRow).where(DeliveryRow.delivered.is_(None), DeliveryRow.next_try <= now)
        due = list(session.scalars(query.order_by(DeliveryRow.next_try).limit(GROUP)))
        for row in due:
            # before it is sent: no event joins it any more, and a crash leaves it due again
            row.attempts += 1
            row.next_try = now + timedelta(seconds=_wait_s(row.attempts))
    taken = 0
    for row in due:
        error = _send(sinks.get(row.sink), row)
        taken += error is None
        with store.session() as session:
            kept = session.get(DeliveryRow, row.id)
            if kept is not None:
                kept.delivered, kept.error = store_now(session) if error is None else None, error
    return taken


def sweep(session: Session, now: datetime) -> None:
    """Forget what is older than KEPT_S; what was never taken is logged."""
    old = DeliveryRow.created < now - timedelta(seconds=KEPT_S)
    for row in session.scalars(select(DeliveryRow).where(old, DeliveryRow.delivered.is_(None))):
        logger.error("the sink '%s' never took the message %s: %s", row.sink, row.id, row.error)
    session.execute(delete(DeliveryRow).where(old))


def owed(session: Session) -> int:
    """Messages that wait to be taken."""
    return session.scalar(select(func.count(DeliveryRow.id)).where(DeliveryRow.delivered.is_(None))) or 0


def _company(session: Session, sink: str, group: str, service: str, now: datetime) -> DeliveryRow | None:
    """A message of the same group that still waits for company."""
    waiting = (DeliveryRow.sink == sink, DeliveryRow.attempts == 0, DeliveryRow.next_try >= now)
    rows = session.scalars(select(DeliveryRow).where(*waiting).with_for_update())
    return next((row for row in rows if (row.body["group"], row.body["service"]) == (group, service)), None)


def _send(sink: Sink | None, row: DeliveryRow) -> str | None:
    """Send a message; the error where it wasn't taken."""
    if sink is None:
        return f"no sink is called '{row.sink}' in the rules any more"
    try:
        sink.send(row.id, row.body)
    except NotTaken as error:
        return str(error)
    return None


def _wait_s(attempts: int) -> float:
    longest = min(LONGEST_S, FIRST_S * 2 ** min(attempts, 20))
    return random.uniform(longest / 2, longest)
