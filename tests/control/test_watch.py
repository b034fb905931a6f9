"""The poll: what a gateway sees of the store, and that nothing which happens to the store leaves it open."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import apply, revert
from raysafe.control.key_store import KeyStore
from raysafe.control.kill_log import ALL
from raysafe.control.kill_orders import kill, restore
from raysafe.control.leases import await_seen, holders
from raysafe.control.measures import NONE
from raysafe.control.watch import ControlPlane
from raysafe.errors import StorageError
from raysafe.records.control_tables import KillRow
from raysafe.records.store import Store, open_store

pytestmark = pytest.mark.serve

LONG_S = 30.0
"""Far longer than anything here takes, so that a slow machine fails no test."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, so that tests don't wait; the lease is as long as ever."""
    monkeypatch.setattr("raysafe.control.watch.RENEW_S", 0.05)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def plane(url: str) -> Iterator[ControlPlane]:
    made = ControlPlane(url, "m", names=["base:1"])
    made.start(LONG_S)
    yield made
    made.stop()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def test_a_gateway_opens_with_the_first_look(plane: ControlPlane) -> None:
    assert plane.state().status == "open"


@pytest.mark.parametrize("target", ["m", "base:1", ALL])
def test_an_order_reaches_a_gateway_by_each_of_its_names(store: Store, plane: ControlPlane, target: str) -> None:
    told: list[str] = []
    plane.on_close(told.append)
    order, _ = kill(store, target, by="ada", reason="strange answers")
    until(lambda: plane.closed)
    assert plane.state() == ("killed", str(order), "ada")
    assert told == [str(order)]


def test_an_order_on_another_model_closes_nothing(store: Store, plane: ControlPlane) -> None:
    _, number = kill(store, "other", by="ada", reason="r")
    assert [stands for _, stands in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
    assert plane.closed is None


def test_a_confirmed_kill_is_in_force(store: Store, plane: ControlPlane) -> None:
    _, number = kill(store, "m", by="ada", reason="r")
    assert [stands for _, stands in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
    assert plane.closed


def test_a_restored_gateway_opens_again(store: Store, plane: ControlPlane) -> None:
    kill(store, "m", by="ada", reason="r")
    until(lambda: plane.closed)
    restore(store, "m", by="bo", reason="s")
    until(lambda: plane.closed is None)


def test_a_gateway_that_starts_finds_the_order(store: Store, url: str) -> None:
    kill(store, "m", by="ada", reason="r")
    plane = ControlPlane(url, "m")
    plane.start(LONG_S)
    assert plane.state().status == "killed"
    plane.stop()


@pytest.mark.parametrize("statement", [delete(KillRow), update(KillRow).values(restored_by="bo")])
def test_who_writes_the_store_alone_opens_no_gateway(store: Store, plane: ControlPlane, statement: object) -> None:
    kill(store, "m", by="ada", reason="r")
    until(lambda: plane.closed)
    with store.session() as session:
        session.execute(statement)  # type: ignore[call-overload]
        number = session.execute(text("UPDATE control_revision SET number = number + 1 RETURNING number")).scalar_one()
    assert [stands for _, stands in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
    assert plane.state().status == "killed"


def test_keys_open_and_close_without_a_restart(store: Store, plane: ControlPlane) -> None:
    keys, ring = KeyStore(store, by="ada"), plane.keys
    _, secret = keys.make("app", "acme", ("operator",))
    until(lambda: ring.identify(secret))
    found = ring.identify(secret)
    assert found is not None and (found.id, found.tenant, found.scopes) == ("app", "acme", ("operator",))
    keys.revoke("app", reason="leaked")
    until(lambda: ring.identify(secret) is None)


def test_a_key_that_expires_is_ended_in_the_store(store: Store, plane: ControlPlane) -> None:
    keys = KeyStore(store, by="ada")
    _, secret = keys.make("app", expires=datetime.now(UTC) + timedelta(seconds=0.3))
    until(lambda: keys.all()[0].ended)
    until(lambda: len(plane.keys) == 0)
    assert plane.keys.identify(secret) is None


def test_a_stopped_gateway_gives_its_lease_back_and_stays_closed(store: Store, url: str) -> None:
    plane = ControlPlane(url, "m")
    plane.start(LONG_S)
    plane.stop()
    assert plane.closed == "the service is stopping"
    with store.reading() as session:
        assert holders(session) == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "raysafe.db"


@pytest.fixture
def sqlite_plane(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    monkeypatch.setenv("RAYSAFE_AUDIT", str(file.parent / "audit"))
    open_store(f"sqlite:///{file}").close()
    made = ControlPlane(f"sqlite:///{file}", "m")
    made.start(LONG_S)
    assert made.closed is None
    yield made
    made.stop()


def test_a_store_that_is_gone_closes_and_one_that_comes_back_opens(file: Path, sqlite_plane: ControlPlane) -> None:
    told = threading.Event()
    sqlite_plane.on_close(lambda reason: told.set())
    away = file.rename(file.with_suffix(".away"))
    assert told.wait(LONG_S)
    assert "is gone" in (sqlite_plane.closed or "")
    assert not file.exists()
    away.rename(file)
    until(lambda: sqlite_plane.closed is None)


def test_a_store_put_in_the_place_of_one_with_an_order_lifts_nothing(file: Path, sqlite_plane: ControlPlane) -> None:
    with open_store(f"sqlite:///{file}") as store:
        kill(store, "m", by="ada", reason="r")
    for path in file.parent.glob("raysafe.db*"):
        path.unlink()
    with open_store(f"sqlite:///{file}") as store:
        until(lambda: "and the store doesn't" in (sqlite_plane.closed or ""))
        with store.reading() as session:
            assert [h.service for h in holders(session)] == ["m"]


def test_a_store_that_another_writer_holds_closes(file: Path, sqlite_plane: ControlPlane) -> None:
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    until(lambda: sqlite_plane.closed)
    assert "locked" in (sqlite_plane.closed or "")
    holder.execute("ROLLBACK")
    holder.close()
    until(lambda: sqlite_plane.closed is None)


def test_a_store_that_never_answers_closes_when_the_lease_ends(
    sqlite_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that asks is held for as long as the test wants: nothing may wait for it."""
    go_on, told = threading.Event(), threading.Event()

    def hang(self: Store) -> None:
        go_on.wait(LONG_S)

    monkeypatch.setattr(Store, "check_place", hang)
    sqlite_plane.on_close(lambda reason: told.set())
    assert told.wait(LONG_S)
    assert sqlite_plane.state().status == "stale"
    go_on.set()


def test_a_damaged_store_closes(file: Path, sqlite_plane: ControlPlane) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE control_revision")
    until(lambda: sqlite_plane.closed)
    assert sqlite_plane.state().status == "unreachable"


def test_an_error_that_nobody_foresaw_closes(sqlite_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Store) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Store, "check_place", fail)
    until(lambda: sqlite_plane.closed)
    assert sqlite_plane.closed == "the kill switch can't be read: ZeroDivisionError"
    monkeypatch.undo()


def test_a_gateway_that_starts_without_a_store_is_closed_and_makes_none(tmp_path: Path) -> None:
    plane = ControlPlane(f"sqlite:///{tmp_path}/raysafe.db", "m")
    plane.start(LONG_S)
    assert "is gone" in (plane.closed or "")
    plane.stop()
    assert not (tmp_path / "raysafe.db").exists()


def test_a_url_of_no_store_is_refused_at_once() -> None:
    with pytest.raises(StorageError, match="SQLite or PostgreSQL"):
        ControlPlane("mysql://a@b/c", "m")


def test_an_intervention_reaches_a_gateway_and_is_lifted(store: Store, plane: ControlPlane) -> None:
    found, number = apply(store, InterventionOrder(kind="degrade", target="base:1"), by="ada", reason="r")
    assert [stands for _, stands in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
    assert plane.measures.degraded
    _, number = revert(store, found.id, by="bo", reason="over")
    assert [stands for _, stands in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
    assert plane.measures == NONE


def test_an_intervention_ends_without_a_change_in_the_store(store: Store, plane: ControlPlane) -> None:
    order = InterventionOrder(kind="quarantine", target="m", duration_s=0.5)
    _, number = apply(store, order, by="ada", reason="r")
    assert [stands for _, stands in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
    until(lambda: plane.measures == NONE)
