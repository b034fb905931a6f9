"""The store: SQLite by default, PostgreSQL by URL. Its schema comes from the migrations, run when it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from raysafe.errors import StorageError

LOCK_TIMEOUT_S = 30
_MIGRATION_LOCK = 7_213_004
"""Any number, the same for everyone: PostgreSQL's advisory lock around migrations."""


def default_url() -> str:
    """RAYSAFE_STORE, or the SQLite file runs/raysafe.db below the current folder."""
    return os.environ.get("RAYSAFE_STORE") or f"sqlite:///{Path('runs', 'raysafe.db').absolute()}"


class Store:
    """One database, its schema brought up to date. Use as a context manager, or close it."""

    def __init__(self, url: str) -> None:
        """Raises StorageError for a URL that can't be used; messages never hold its password."""
        self.engine = _engine(url)
        self.url = self.engine.url.render_as_string(hide_password=True)
        try:
            with self.engine.connect() as connection:
                _migrate(connection)
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StorageError(f"can't use the store {self.url}: {reason}; set RAYSAFE_STORE to another") from None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back on an error."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
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


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(
            "the store's URL can't be read: give sqlite:///folder/raysafe.db or postgresql+psycopg://user@host/name"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        try:
            Path(parsed.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't make the folder of the store {url}: {error.strerror}") from None
        engine = create_engine(parsed, connect_args={"timeout": LOCK_TIMEOUT_S})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    if parsed.get_backend_name() != "postgresql":
        raise StorageError(f"a store is SQLite or PostgreSQL, got '{parsed.get_backend_name()}'")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return create_engine(parsed, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise StorageError("a PostgreSQL store needs its driver: pip install 'raysafe[postgres]'") from None


def _set_up_sqlite(connection: Any, record: object) -> None:
    # transactions are begun by hand, as writers from the start: a reader that turns writer can't wait for the lock
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(connection: Connection) -> None:
    """Bring the schema up to date; one process at a time does it, the others wait and find it done."""
    # imported here: opening an up-to-date store stays fast
    from alembic import command
    from alembic.config import Config as AlembicConfig

    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config = AlembicConfig()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
