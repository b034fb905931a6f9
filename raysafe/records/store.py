"""The store: SQLite by default, PostgreSQL by URL. Its schema comes from the migrations, run when it is opened."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from raysafe.errors import StorageError

LOCK_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
_TRY_AGAIN_S = (0.0005, 0.004)
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_213_004
"""Any number, the same for everyone: PostgreSQL's advisory lock of those who must be alone."""
_READS = "raysafe_reads"
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}


def default_url() -> str:
    """RAYSAFE_STORE, or the SQLite file runs/raysafe.db below the current folder."""
    return os.environ.get("RAYSAFE_STORE") or f"sqlite:///{Path('runs', 'raysafe.db').absolute()}"


class Store:
    """One database, its schema brought up to date. Use as a context manager, or close it."""

    def __init__(self, url: str, *, wait_s: float | None = None, make: bool = True) -> None:
        """Raises StorageError for a URL that can't be used; messages never hold its password.

        wait_s: longest wait for a lock, a statement or a connection; by default what suits a command, not a service.
        make: whether a SQLite file that isn't there is made.
        """
        parsed = parse_url(url)
        self._file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self._opened = None if make else self._identity()
        # a driver takes a password in the query too
        self.url = parsed.set(query={}).render_as_string(hide_password=True)
        self.engine = _engine(parsed, wait_s)
        self._reader = self.engine.execution_options(**{_READS: True})
        with _told(self.url):
            _migrate(self.engine, self.url)
        self._opened = self._opened or self._identity()

    def check_place(self) -> None:
        """Raise StorageError where a SQLite store's file isn't the one that was opened: what is written is lost."""
        if self._identity() != self._opened:
            raise StorageError(f"the store {self._file} was replaced by another file while it was in use")

    def _identity(self) -> tuple[int, int] | None:
        """Device and inode of a SQLite store's file, None for PostgreSQL; raises StorageError where it is gone."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError as error:
            raise StorageError(f"the store {self._file} is gone: {error.strerror}") from None
        return found.st_dev, found.st_ino

    @contextmanager
    def session(self, *, alone: bool = False) -> Iterator[Session]:
        """A transaction that writes: committed at the end, rolled back on an error; raises StorageError.

        alone: none other of this kind runs meanwhile, as SQLite's writers are in any case.
        """
        with _told(self.url), Session(self.engine, expire_on_commit=False) as session, session.begin():
            if alone and self.engine.dialect.name == "postgresql":
                session.execute(_TAKE_LOCK)
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads, all of it as of one moment, and waits for no writer; raises StorageError."""
        with _told(self.url), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str | None = None) -> Store:
    """The store at `url`, by default `default_url()`."""
    return Store(url or default_url())


def store_now(session: Session) -> datetime:
    """The store's clock: the database server's, or this machine's where the store is a file."""
    if session.get_bind().dialect.name == "postgresql":
        return session.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)
    now = session.execute(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
    return datetime.fromisoformat(now).replace(tzinfo=UTC)


def parse_url(url: str) -> URL:
    """The URL with its driver named and SQLite's path absolute; raises StorageError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # what can't be read may be the password: nothing of it is repeated
        raise StorageError(
            "the store's URL can't be read: give sqlite:///folder/raysafe.db or postgresql+psycopg://user@host/name"
        ) from None
    kind, _, driver = parsed.drivername.partition("+")
    if kind not in _DRIVERS:
        raise StorageError(f"a store is SQLite or PostgreSQL, got '{kind}'")
    if driver not in ("", _DRIVERS[kind]):
        raise StorageError(f"a {kind} store uses the driver {_DRIVERS[kind]}, got '{driver}': give {kind}://…")
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    database = parsed.database or ""
    if database in ("", ":memory:") or database.startswith("file:"):
        raise StorageError(
            "a store is a file, for approvals must outlive the process: give sqlite:///folder/raysafe.db"
        )
    return parsed.set(database=str(Path(database).absolute()))


def _engine(url: URL, wait_s: float | None) -> Engine:
    if url.get_backend_name() == "sqlite":
        folder = Path(url.database or "").parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't make the folder of the store {folder}: {error.strerror}") from None
        wait_s = LOCK_TIMEOUT_S if wait_s is None else wait_s
        engine = create_engine(url, connect_args={"timeout": wait_s})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", partial(_begin_sqlite, wait_s=wait_s))
        return engine
    waits = {"connect_timeout": CONNECT_TIMEOUT_S}
    if wait_s is not None:
        # a server that vanished without a word must acknowledge in this time what it was sent
        waits = {"connect_timeout": math.ceil(wait_s), "tcp_user_timeout": _ms(wait_s)}
    try:
        arguments = {name: value for name, value in waits.items() if name not in url.query}
        engine = create_engine(url, pool_pre_ping=True, connect_args=arguments)
    except ModuleNotFoundError:
        raise StorageError("a PostgreSQL store needs its driver: pip install 'raysafe[postgres]'") from None
    event.listen(engine, "begin", partial(_begin_postgresql, wait_s=wait_s))
    return engine


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _set_up_sqlite(connection: Any, record: object) -> None:
    # transactions are begun by hand
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection, *, wait_s: float) -> None:
    if connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("BEGIN")
        return
    # a writer is one from the start: a reader that turns writer can't wait for the lock
    deadline = time.monotonic() + wait_s
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while not _took_lock(connection, time.monotonic() >= deadline):
            # SQLite's own wait grows to 0.1 s a try and starves: 2.3 s beside two busy writers, so 0.1 s, 2026-11
            time.sleep(random.uniform(*_TRY_AGAIN_S))
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_ms(wait_s)}")


def _took_lock(connection: Connection, last_try: bool) -> bool:
    """Begin as the only writer; False where another one holds the lock, which a last try raises."""
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if last_try or getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _begin_postgresql(connection: Connection, *, wait_s: float | None) -> None:
    if connection.get_execution_options().get(_READS):
        # one snapshot for all that a transaction reads, as in SQLite
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    limits = f"SET LOCAL lock_timeout = {_ms(LOCK_TIMEOUT_S if wait_s is None else wait_s)}"
    if wait_s is not None:
        limits += f"; SET LOCAL statement_timeout = {_ms(wait_s)}"
    connection.exec_driver_sql(limits)


_TAKE_LOCK = text(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _migrate(engine: Engine, url: str) -> None:
    """Bring the schema up to date; one process at a time does it, the others wait and find it done."""
    known = sorted(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    with engine.connect().execution_options(**{_READS: True}) as connection, connection.begin():
        if _schema(connection) == known[-1]:
            return
    # imported here: opening an up-to-date store stays fast
    from alembic import command
    from alembic.config import Config as AlembicConfig

    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(_TAKE_LOCK)
        found = _schema(connection)
        if found is not None and found not in known:
            raise StorageError(
                f"the store {url} was written by a newer RaySafe (schema {found}, this one knows up to {known[-1]}): "
                "upgrade, or set RAYSAFE_STORE to another"
            )
        config = AlembicConfig()
        # the option's own escape
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _schema(connection: Connection) -> str | None:
    """The schema's revision; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _told(url: str) -> Iterator[None]:
    """A database's error as one sentence, without the statement and its values."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StorageError(f"can't use the store {url}: {reason}; mend it, or set RAYSAFE_STORE to another") from None
