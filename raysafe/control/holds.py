"""Holds in the store: what a guard held waits here for a person, and leaves only with that person's row in the log.

What nobody decides on in time is blocked, and that has its row too. A reviewer's word is in the store and in the audit
log, and counts only where both say the same: who can write the store alone releases nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Text, cast, func, select, update

from raysafe.control.held import Held, Hold, Outcome
from raysafe.control.people import same_person
from raysafe.errors import ConfigError, StorageError
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.audit_chain import SUFFIX, read_rows
from raysafe.records.hold_table import HoldRow
from raysafe.records.store import Store, store_now

CHAIN = "holds"
"""Writer of decisions on holds in the audit log; holds-2, … where several decide at a time."""
HOLD_HOURS = 24.0
LAPSED = "lapsed"
"""Kind of the row of a hold that nobody decided on in time."""
CLOCK = "the clock"
"""Who says so."""
MOST_AT_ONCE = 256
MOST_OF_ONE_KEY = 256
"""Holds of one key that wait at the same time: each may be as large as a request and its answer."""


class Holds:
    """The holds of one store."""

    def __init__(self, store: Store, audit: Path | None = None) -> None:
        self._store, self._audit = store, audit or audit_folder(store.url)

    def put(self, exchange_id: str, hours: float = HOLD_HOURS, **fields: Any) -> None:
        """Keep an exchange; `fields` are HoldRow's. What has expired is emptied meanwhile.

        One that is kept already stays as it is. Raises StorageError where too many of the key's wait.
        """
        held: Held = fields.pop("held")
        with self._store.session() as session:
            known, now = session.get(HoldRow, exchange_id), store_now(session)
            if known and all(getattr(known, name) == fields[name] for name in ("stage", "guard", "digest")):
                return
            mine = (HoldRow.key_id == fields["key_id"], HoldRow.outcome.is_(None), HoldRow.expires > now)
            if (session.scalar(select(func.count(HoldRow.id)).where(*mine)) or 0) >= MOST_OF_ONE_KEY:
                raise StorageError(f"{MOST_OF_ONE_KEY} holds of this key wait for a reviewer already")
            body = held.model_dump(mode="json")
            expires = now + timedelta(hours=hours)
            session.add(HoldRow(id=exchange_id, body=body, created=now, expires=expires, **fields))
            session.execute(
                update(HoldRow).where(HoldRow.expires <= now, cast(HoldRow.body, Text) != "{}").values(body={})
            )

    def get(self, hold_id: str) -> Hold | None:
        with self._store.reading() as session:
            row = session.get(HoldRow, hold_id)
            return None if row is None else _hold(row)

    def list(self, service: str | None = None, *, pending: bool = True) -> list[Hold]:
        """Holds, oldest first: those that wait for a decision, or all of them."""
        with self._store.reading() as session:
            query = select(HoldRow).order_by(HoldRow.created, HoldRow.id)
            if service is not None:
                query = query.where(HoldRow.service == service)
            if pending:
                query = query.where(HoldRow.outcome.is_(None), HoldRow.expires > store_now(session))
            return [_hold(row) for row in session.scalars(query)]

    def count_pending(self, service: str, tenant: str | None = None) -> int:
        """How many wait for a decision, of one tenant or of all."""
        with self._store.reading() as session:
            waits = [HoldRow.service == service, HoldRow.outcome.is_(None), HoldRow.expires > store_now(session)]
            if tenant is not None:
                waits.append(HoldRow.tenant == tenant)
            return session.scalar(select(func.count(HoldRow.id)).where(*waits)) or 0

    def decide(self, hold_id: str, outcome: Outcome, *, reviewer: str, note: str) -> Hold:
        """Release or refuse what waits; the audit row is durable first.

        Raises ConfigError for what doesn't wait, without a reason, or where the one who decides is the one who asked.
        """
        if not note.strip():
            raise ConfigError("a decision on a hold needs a reason: give --note WHY")
        with AuditLog(self._audit, writer=CHAIN, unique=True) as log, self._store.session(alone=True) as session:
            row = session.get(HoldRow, hold_id)
            if row is None:
                raise ConfigError(f"nothing is held as '{hold_id}': `raysafe holds list` shows what is")
            state = _hold(row).state(store_now(session))
            if state != "pending":
                raise ConfigError(f"'{hold_id}' waits for no decision any more: it is {state}")
            if same_person(reviewer, row.key_id):
                raise ConfigError(f"'{reviewer}' asked for it: somebody else decides")
            said = log.append(outcome, reviewer, hold_id, _details(row, note))
            row.outcome, row.reviewer, row.note = outcome, reviewer, note
            row.decided, row.audit_hash = store_now(session), said.hash
            session.flush()
            return _hold(row)

    def lapse(self) -> list[str]:
        """Block what nobody decided on in time, and empty it; the ids of these holds, at most MOST_AT_ONCE of them.

        It was blocked by the clock alone from the moment it expired: this writes down that it is, once for each hold,
        and the audit row is durable first.
        """
        due = (HoldRow.outcome.is_(None), HoldRow.audit_hash.is_(None))
        with self._store.reading() as session:
            if session.scalar(select(HoldRow.id).where(*due, HoldRow.expires <= store_now(session)).limit(1)) is None:
                return []
        with AuditLog(self._audit, writer=CHAIN, unique=True) as log, self._store.session(alone=True) as session:
            now = store_now(session)
            query = select(HoldRow).where(*due, HoldRow.expires <= now).order_by(HoldRow.expires).limit(MOST_AT_ONCE)
            rows = list(session.scalars(query))
            for row in rows:
                said = log.append(LAPSED, CLOCK, row.id, _details(row, "nobody decided in time"))
                row.body, row.decided, row.audit_hash = {}, now, said.hash
            return [row.id for row in rows]

    def released(self, hold_id: str) -> Hold | None:
        """A hold that was released and hasn't expired, where the audit log says so too; else None."""
        with self._store.reading() as session:
            return self._released(session.get(HoldRow, hold_id), store_now(session))

    def take(self, hold_id: str, digest: str) -> Hold | None:
        """A released hold on what has this digest, once; None where there is none, or it was taken before."""
        with self._store.session(alone=True) as session:
            row, now = session.get(HoldRow, hold_id), store_now(session)
            hold = self._released(row, now)
            if row is None or hold is None or hold.digest != digest:
                return None
            row.used = now
            return hold

    def _released(self, row: HoldRow | None, now: datetime) -> Hold | None:
        hold = None if row is None else _hold(row)
        return hold if row and hold and hold.state(now) == "released" and self._logged(row) else None

    def _logged(self, row: HoldRow) -> bool:
        """Whether the log's last word on this hold is the store's."""
        last: dict[str, Any] | None = None
        for path in sorted(self._audit.glob(f"{CHAIN}*{SUFFIX}")):
            for _, found in read_rows(path):
                newest = found is not None and (last is None or last["time"] < found["time"])
                if found is not None and found["subject"] == row.id and newest:
                    last = found
        if last is None or last["hash"] != row.audit_hash:
            return False
        said = (last["kind"], last["actor"], last["details"])
        return said == (row.outcome, row.reviewer, _details(row, row.note or ""))


def _details(row: HoldRow, note: str) -> dict[str, Any]:
    return {"service": row.service, "stage": row.stage, "guard": row.guard, "sha256": row.digest, "note": note}


def _hold(row: HoldRow) -> Hold:
    fields = {name: getattr(row, name) for name in Hold._fields if name != "held"}
    return Hold(**fields, held=Held.model_validate(row.body) if row.body else None)
