"""API keys in the store: made, listed, rotated and revoked, each with its row in the audit log first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from raysafe.control.keys import Key, Scope, new_key
from raysafe.control.people import person
from raysafe.control.revision import bump
from raysafe.errors import ConfigError
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.control_tables import KeyRow
from raysafe.records.store import Store, store_now

CHAIN = "keys"
"""Writer of changes of keys in the audit log; keys-2, … where several change them at a time."""


class KeptKey(NamedTuple):
    """A key and what became of it."""

    key: Key
    number: int
    ended: datetime | None
    replaced_by: int | None

    @property
    def state(self) -> str:
        """live, being replaced (both secrets open), replaced, expired or revoked."""
        if self.ended is None:
            return "live" if self.replaced_by is None else "being replaced"
        if self.key.expires is None or self.key.expires > self.ended:
            return "revoked"
        return "expired" if self.replaced_by is None else "replaced"


class KeyStore:
    """The keys of one store. Changes are in force at every gateway within its lease."""

    def __init__(self, store: Store, audit: Path | None = None, *, by: str | None = None) -> None:
        """audit: folder of the audit log; the store's by default. by: who makes the changes."""
        self._store, self._audit = store, audit or audit_folder(store.url)
        self._by = person(by)
        self.number = 0
        """Number of the last change that was made here, which gateways confirm (leases.await_seen)."""

    def make(
        self,
        key_id: str,
        tenant: str = "default",
        scopes: Sequence[Scope] = ("user",),
        expires: datetime | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret, which is nowhere else; raises ConfigError where the name was ever used."""
        key, secret = new_key(key_id, tenant, scopes, expires)
        with self._log() as log, self._store.session(alone=True) as session:
            now = store_now(session)
            if session.scalars(select(KeyRow).where(KeyRow.id == key_id)).first() is not None:
                raise ConfigError(
                    f"there is or was a key called '{key_id}', and audit rows and budgets go by names: give the new "
                    "one another name, or rotate the old one"
                )
            _check_end(key_id, expires, now)
            log.append("key made", self._by, key_id, _public(key))
            _insert(session, key, now)
            self.number = bump(session)
        return key, secret

    def make_first(self) -> tuple[Key, str] | None:
        """A key to begin with where none opens now, called default, or default-2, … where that is taken; else None."""
        if self.live():
            return None
        with self._store.reading() as session:
            taken = set(session.scalars(select(KeyRow.id)))
        names = ("default", *(f"default-{number}" for number in range(2, len(taken) + 3)))
        return self.make(next(name for name in names if name not in taken))

    def all(self) -> list[KeptKey]:
        """All keys, oldest first."""
        with self._store.reading() as session:
            return [_kept(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.number))]

    def live(self) -> list[Key]:
        """The keys that open now."""
        with self._store.reading() as session:
            return read_keys(session)

    def rotate(
        self, key_id: str, *, grace: timedelta = timedelta(0), expires: datetime | None = None
    ) -> tuple[Key, str]:
        """A new secret for a key; the old one opens for `grace` more.

        expires: the new secret's end, the old one's by default; with it a key that has expired can be rotated too.
        Raises ConfigError where none is live.
        """
        with self._log() as log, self._store.session(alone=True) as session:
            now = store_now(session)
            _check_end(key_id, expires, now)
            rows = self._live_rows(session, key_id, now, or_expired=expires is not None)
            latest = rows[-1]
            key, secret = new_key(key_id, latest.tenant, _kept(latest).key.scopes, expires or latest.expires)
            until = now + grace
            log.append("key rotated", self._by, key_id, _public(key) | {"old_secret_until": until.isoformat()})
            number = _insert(session, key, now)
            for row in rows:
                row.replaced_by = number
                ends = until if row.expires is None else min(until, row.expires)
                row.expires, row.ended = ends, now if row.ended is None and ends <= now else row.ended
            self.number = bump(session)
        return key, secret

    def revoke(self, key_id: str, *, reason: str) -> None:
        """End all secrets of a key at once; raises ConfigError where none is live."""
        with self._log() as log, self._store.session(alone=True) as session:
            now = store_now(session)
            rows = self._live_rows(session, key_id, now)
            log.append("key revoked", self._by, key_id, {"reason": reason})
            for row in rows:
                row.ended = now
            self.number = bump(session)

    def forget(self, key_id: str) -> None:
        """Take a key away whose secret was never shown to anyone, and free its name."""
        with self._log() as log, self._store.session(alone=True) as session:
            log.append("key forgotten", self._by, key_id, {})
            session.execute(delete(KeyRow).where(KeyRow.id == key_id))
            self.number = bump(session)

    def _live_rows(self, session: Session, key_id: str, now: datetime, *, or_expired: bool = False) -> Sequence[KeyRow]:
        rows = session.scalars(select(KeyRow).where(KeyRow.id == key_id).order_by(KeyRow.number)).all()
        live = [row for row in rows if row.ended is None and not _expired(row, now)]
        if live:
            return live
        if or_expired and rows and _expired(rows[-1], rows[-1].ended or now):
            return rows[-1:]
        known = session.scalars(select(KeyRow.id).where(KeyRow.ended.is_(None)).distinct().order_by(KeyRow.id))
        raise ConfigError(f"no live key is called '{key_id}'; live: {', '.join(known) or 'none'}")

    def _log(self) -> AuditLog:
        """Closed after the commit: its anchor, which may be far away, must not delay a revocation."""
        return AuditLog(self._audit, writer=CHAIN, unique=True)


def read_keys(session: Session) -> list[Key]:
    """The keys that open now, by the store's clock."""
    now = store_now(session)
    rows = session.scalars(select(KeyRow).where(KeyRow.ended.is_(None)).order_by(KeyRow.number))
    return [_kept(row).key for row in rows if not _expired(row, now)]


def end_expired(session: Session, now: datetime) -> bool:
    """Mark keys that have expired as ended, so that no clock that goes back revives them; whether there were any."""
    query = update(KeyRow).where(KeyRow.ended.is_(None), KeyRow.expires <= now).values(ended=now)
    return bool(session.scalars(query.returning(KeyRow.number)).all())


def _check_end(key_id: str, expires: datetime | None, now: datetime) -> None:
    if expires is not None and expires <= now:
        raise ConfigError(f"key '{key_id}' would have expired before it is made: {expires:%Y-%m-%d %H:%M} UTC")


def _expired(row: KeyRow, at: datetime) -> bool:
    return row.expires is not None and row.expires <= at


def _insert(session: Session, key: Key, now: datetime) -> int:
    row = KeyRow(
        id=key.id, sha256=key.sha256, tenant=key.tenant, scopes=list(key.scopes), created=now, expires=key.expires
    )
    session.add(row)
    session.flush()
    return row.number


def _kept(row: KeyRow) -> KeptKey:
    key = Key(
        id=row.id,
        sha256=row.sha256,
        tenant=row.tenant,
        scopes=tuple(row.scopes),  # type: ignore[arg-type]
        created=row.created,
        expires=row.expires,
    )
    return KeptKey(key, row.number, row.ended, row.replaced_by)


def _public(key: Key) -> dict[str, Any]:
    expires = None if key.expires is None else key.expires.isoformat()
    return {"tenant": key.tenant, "scopes": list(key.scopes), "expires": expires, "sha256": key.sha256}
