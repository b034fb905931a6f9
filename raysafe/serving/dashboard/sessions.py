"""Who is signed in: opaque tokens whose digests are in the store, so that every gateway knows them.

A session ends by itself, with its key, or when its person signs out. Its form token is derived from the session's own,
which no page and no script can read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, or_, update

from raysafe.control.keys import Key, KeyRing
from raysafe.records.session_table import SessionRow
from raysafe.records.store import Store, store_now

IDLE_S = 1800.0
"""A session ends this long after its person's last step."""
LONGEST_S = 8 * 3600.0
"""A session ends this long after its beginning, whatever is done in it."""
NOTED_S = 60.0
"""A step is written down where the last one that was is older than this."""


class Session(NamedTuple):
    """A session and whose it is."""

    key: Key
    token: str

    @property
    def form_token(self) -> str:
        """What every form of this session sends along, and no other site can know."""
        return hmac.new(self.token.encode(), b"form", hashlib.sha256).hexdigest()

    def sent(self, form_token: str) -> bool:
        return hmac.compare_digest(form_token.encode("utf-8", "replace"), self.form_token.encode())


class Sessions:
    """The sessions of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, key: Key) -> Session:
        """A new session of a key; sessions that have ended are swept away."""
        token = secrets.token_urlsafe(32)
        with self._store.session() as session:
            now = store_now(session)
            idle, old = now - timedelta(seconds=IDLE_S), now - timedelta(seconds=LONGEST_S)
            session.execute(delete(SessionRow).where(or_(SessionRow.seen <= idle, SessionRow.created <= old)))
            session.add(SessionRow(sha256=_digest(token), key_sha256=key.sha256, created=now, seen=now))
        return Session(key, token)

    def find(self, token: str, keys: KeyRing, *, step: bool = True) -> Session | None:
        """The session of a token, where it lasts and its key still opens.

        step: whether this is something that its person did, and not a page that renews itself.
        """
        with self._store.reading() as session:
            row, now = session.get(SessionRow, _digest(token)), store_now(session)
            if row is None or (now - row.seen).total_seconds() >= IDLE_S:
                return None
            if (now - row.created).total_seconds() >= LONGEST_S:
                return None
            key = keys.with_digest(row.key_sha256)
            late = row.seen <= now - timedelta(seconds=NOTED_S)
        if key is not None and step and late:
            with self._store.session() as session:
                session.execute(
                    update(SessionRow).where(SessionRow.sha256 == _digest(token)).values(seen=store_now(session))
                )
        return None if key is None else Session(key, token)

    def close(self, token: str) -> None:
        with self._store.session() as session:
            session.execute(delete(SessionRow).where(SessionRow.sha256 == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
