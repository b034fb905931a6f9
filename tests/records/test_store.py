"""The store on SQLite and on PostgreSQL: readers beside writers, schemas, times, and who is alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from raysafe.errors import StorageError
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.records.tables import EvidenceRow, VersionRow
from tests.records.test_registry import evidence, make_run


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind, without rows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/raysafe.db"
    address: str = request.getfixturevalue("postgresql")
    with open_store(address) as store, store.session() as session:
        session.execute(text("TRUNCATE model_versions, evidence, decisions RESTART IDENTITY"))
    return address


def test_what_is_written_is_read_again(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        registry = Registry(store)
        version, _ = registry.register(make_run(tmp_path / "a"), name="tiny")
        seen = evidence(version.digest)
        registry.add_evidence(version, [seen])
    with open_store(url) as store:
        assert Registry(store).list() == [version]
        assert Registry(store).evidence(version) == [seen]


def test_times_come_back_in_utc_whatever_zone_they_were_written_in(url: str) -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=5)))
    columns = {"version": 1, "digest": "0" * 64, "path": "p", "config": {}, "inputs": []}
    with open_store(url) as store:
        with store.session() as session:
            session.add(VersionRow(name="a", created=moment, **columns))
        with store.reading() as session:
            found = session.scalars(select(VersionRow.created)).one()
    assert found == moment
    assert found.tzinfo is UTC


def test_versions_that_are_registered_at_once_count_up_without_gaps(url: str, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{i}", weights=str(i)) for i in range(16)]
    with open_store(url) as store:
        registry = Registry(store)
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda run: registry.register(run, name="many")[0].version, runs))
    assert sorted(made) == list(range(1, 17))


def test_a_reader_waits_for_no_writer(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        version, _ = Registry(store).register(make_run(tmp_path / "a"), name="tiny")
        read = threading.Event()

        def reader() -> None:
            assert Registry(store).get("tiny") == version
            read.set()

        with store.session(alone=True) as session:
            session.add(EvidenceRow(version_id=version.id, body={}, added=datetime.now(UTC)))
            session.flush()
            thread = threading.Thread(target=reader)
            thread.start()
            assert read.wait(10), "the reader waited for the writer's transaction"
        thread.join()


def test_what_a_transaction_reads_is_of_one_moment(url: str, tmp_path: Path) -> None:
    count = select(func.count()).select_from(VersionRow)
    with open_store(url) as store, store.reading() as session:
        before = session.scalar(count)
        Registry(store).register(make_run(tmp_path / "a"), name="tiny")
        assert session.scalar(count) == before
    with open_store(url) as store, store.reading() as session:
        assert session.scalar(count) == (before or 0) + 1


def test_a_failed_transaction_leaves_nothing(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        version, _ = Registry(store).register(make_run(tmp_path / "a"), name="tiny")
        with pytest.raises(RuntimeError), store.session() as session:
            session.add(EvidenceRow(version_id=version.id, body={}, added=datetime.now(UTC)))
            session.flush()
            raise RuntimeError
        assert Registry(store).evidence(version) == []


def test_a_store_of_a_newer_raysafe_is_refused_and_left_alone(url: str) -> None:
    with open_store(url) as store, store.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(StorageError, match=r"written by a newer RaySafe.*upgrade"):
            open_store(url)
    finally:
        if url.startswith("postgresql"):
            import psycopg

            with psycopg.connect(url) as connection:
                connection.execute("UPDATE alembic_version SET version_num = '0002'")


def test_a_statement_that_fails_is_one_sentence_without_its_values(url: str) -> None:
    with open_store(url) as store, pytest.raises(StorageError) as raised, store.session() as session:
        session.execute(text("SELECT * FROM nowhere WHERE x = :secret"), {"secret": "hunter2"})
    assert "can't use the store" in str(raised.value)
    assert "hunter2" not in str(raised.value) and "SELECT" not in str(raised.value)


def test_a_locked_sqlite_store_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysafe.records.store.LOCK_TIMEOUT_S", 0.2)
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as store:
        holder = sqlite3.connect(tmp_path / "raysafe.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="database is locked"), store.session() as session:
            session.execute(text("SELECT 1"))
        holder.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "sqlite://", "a store is a file"),
        (lambda folder: "sqlite:///:memory:", "a store is a file"),
        (lambda folder: f"sqlite+aiosqlite:///{folder}/a.db", "uses the driver pysqlite, got 'aiosqlite'"),
        (lambda folder: "postgresql+asyncpg://a@b/c", "uses the driver psycopg, got 'asyncpg'"),
        (lambda folder: "postgresql://a:hunter2@b:port/c", "URL can't be read"),
    ],
)
def test_a_url_that_is_no_store_is_refused(make: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=message) as raised:
        open_store(make(tmp_path))
    assert "hunter2" not in str(raised.value)


def test_a_relative_store_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///here.db") as store:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        Registry(store).list()
    assert (tmp_path / "here.db").is_file()
    assert not (tmp_path / "elsewhere" / "here.db").exists()
