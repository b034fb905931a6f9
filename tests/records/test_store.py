"""The store on SQLite and on PostgreSQL: readers beside writers, schemas, times, and who is alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from raysafe.errors import StorageError
from raysafe.records.registry import Registry
from raysafe.records.store import MIGRATIONS, Store, open_store
from raysafe.records.tables import Base, EvidenceRow, VersionRow
from tests.records.test_registry import evidence, make_run


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.serve)])
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


def test_the_migrations_make_the_tables_that_the_code_reads(url: str) -> None:
    """By Alembic's own comparison."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    # SQLite has too few types to compare by
    types = url.startswith("postgresql")
    for module in MIGRATIONS.parent.glob("*table*.py"):
        import_module(f"raysafe.records.{module.stem}")
    with open_store(url) as store, store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": types})
        assert compare_metadata(context, Base.metadata) == []


def test_a_store_of_a_newer_raysafe_is_refused_and_left_alone(url: str) -> None:
    with open_store(url) as store, store.session() as session:
        known = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(StorageError, match=r"written by a newer RaySafe.*upgrade"):
            open_store(url)
    finally:
        if url.startswith("postgresql"):
            import psycopg

            with psycopg.connect(url) as connection:
                connection.execute("UPDATE alembic_version SET version_num = %s", (known,))


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


def test_who_waits_for_a_lock_no_longer_than_it_said_is_told_so(url: str) -> None:
    with open_store(url) as store, Store(url, wait_s=0.1) as hasty:
        update = text("UPDATE control_revision SET number = number WHERE id = 1")
        with store.session() as session:
            session.execute(update)
            with pytest.raises(StorageError, match=r"lock|timeout"), hasty.session() as second:
                second.execute(update)
        with hasty.session() as third:
            third.execute(update)


def test_a_sqlite_writer_gets_its_turn_between_two_that_write_all_the_time(tmp_path: Path) -> None:
    url, stop, written = f"sqlite:///{tmp_path}/raysafe.db", threading.Event(), [0, 0]
    update = text("UPDATE control_revision SET number = number WHERE id = 1")

    def write(number: int) -> None:
        with open_store(url) as busy:
            while not stop.is_set():
                with busy.session() as session:
                    session.execute(update)
                written[number] += 1

    with Store(url, wait_s=10) as store, ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, number) for number in range(2)]
        while min(written) == 0 and not any(writer.done() for writer in writers):
            time.sleep(0.001)
        for _ in range(10):
            with store.session() as session:
                session.execute(update)
        stop.set()
        for writer in writers:
            writer.result()


def test_a_sqlite_file_that_is_not_there_is_refused_where_none_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is gone"):
        Store(f"sqlite:///{tmp_path}/raysafe.db", make=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("again", "message"), [(False, "is gone"), (True, "replaced by another file")])
def test_a_sqlite_file_that_was_taken_away_is_noticed(tmp_path: Path, again: bool, message: str) -> None:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    with open_store(url) as store:
        store.check_place()
        (tmp_path / "raysafe.db").rename(tmp_path / "away.db")
        if again:
            open_store(url).close()
        with pytest.raises(StorageError, match=message):
            store.check_place()


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
