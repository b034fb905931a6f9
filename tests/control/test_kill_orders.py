"""Kill orders: in force by the store or the log, lifted only by both, and only by a second person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from raysafe.control.kill_log import ALL, KillLog
from raysafe.control.kill_orders import in_force, kill, read_orders, restore, why_killed
from raysafe.errors import ConfigError, NotApproved, StorageError
from raysafe.records.audit import AuditLog
from raysafe.records.control_tables import KillRow
from raysafe.records.store import Store, open_store


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def tamper(store: Store, statement: object) -> None:
    """What somebody does who can write the store and nothing else."""
    with store.session() as session:
        session.execute(statement)  # type: ignore[call-overload]


def test_a_killed_model_is_killed_and_no_other(store: Store) -> None:
    order, _ = kill(store, "m", by="ada", reason="strange answers")
    assert why_killed(store, ["m:1", "m"]) == f"'m' was killed by ada at {order.time[:19]}: strange answers"
    assert why_killed(store, ["m:1", "n"]) is None


def test_an_order_on_everything_reaches_every_model(store: Store) -> None:
    kill(store, ALL, by="ada", reason="drill")
    assert "everything was killed by ada" in (why_killed(store, ["m"]) or "")


@pytest.mark.parametrize("name", ["ada", " ADA", "\uff41da"])
def test_who_killed_cannot_restore_under_any_spelling(store: Store, name: str) -> None:
    kill(store, "m", by="ada", reason="r")
    with pytest.raises(NotApproved, match="a second person must"):
        restore(store, "m", by=name, reason="fine again")
    assert why_killed(store, ["m"])


def test_a_second_person_restores(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    lifted, _ = restore(store, "m", by="bo", reason="fine again")
    assert [order.by for order in lifted] == ["ada"]
    assert why_killed(store, ["m"]) is None


def test_each_who_killed_is_barred_from_restoring(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    kill(store, "m", by="bo", reason="s")
    for name in ("ada", "bo"):
        with pytest.raises(NotApproved):
            restore(store, "m", by=name, reason="t")
    assert len(restore(store, "m", by="cy", reason="t")[0]) == 2
    assert why_killed(store, ["m"]) is None


def test_everything_restored_leaves_what_was_killed_by_name(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    kill(store, ALL, by="ada", reason="drill")
    restore(store, ALL, by="bo", reason="over")
    assert (why_killed(store, ["n"]), bool(why_killed(store, ["m"]))) == (None, True)


def test_a_model_can_be_killed_again(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    restore(store, "m", by="bo", reason="s")
    kill(store, "m", by="bo", reason="again")
    assert "killed by bo" in (why_killed(store, ["m"]) or "")


@pytest.mark.serve
def test_a_kill_waits_for_no_decision_that_is_being_made(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's lock of those who must be alone; SQLite has one lock for all writers."""
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    with open_store(postgresql) as store, Store(postgresql, wait_s=5) as other, store.session(alone=True):
        kill(other, "m", by="ada", reason="r")


def test_nothing_to_restore_is_one_sentence(store: Store) -> None:
    with pytest.raises(ConfigError, match="no kill order on 'm' is in force"):
        restore(store, "m", by="bo", reason="s")


@pytest.mark.parametrize(("target", "by", "reason"), [("m", " ", "r"), ("m", "ada", ""), ("", "ada", "r")])
def test_an_order_needs_a_target_a_name_and_a_reason(store: Store, target: str, by: str, reason: str) -> None:
    with pytest.raises(ConfigError):
        kill(store, target, by=by, reason=reason)


def test_an_order_that_the_log_cannot_take_is_not_given(store: Store, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        kill(store, "m", by="ada", reason="r")
    with store.reading() as session:
        assert read_orders(session) == []


@pytest.mark.parametrize(
    "statement",
    [
        delete(KillRow),
        update(KillRow).values(restored_by="bo", restore_reason="s", restored=KillRow.time, restore_hash="f" * 64),
        update(KillRow).values(target="other"),
        update(KillRow).values(audit_hash="0" * 64, restored_by="bo"),
        text("UPDATE kill_orders SET target = 'n', audit_hash = 'x'"),
    ],
    ids=["deleted", "restored", "turned", "rebound", "replaced"],
)
def test_who_writes_the_store_alone_lifts_no_order(store: Store, statement: object) -> None:
    kill(store, "m", by="ada", reason="r")
    tamper(store, statement)
    assert why_killed(store, ["m"])


def test_an_order_stays_in_force_where_no_log_confirms_its_restore(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a gateway that sees another audit log than the one who restored."""
    kill(store, "m", by="ada", reason="r")
    restore(store, "m", by="bo", reason="s")
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "another"))
    assert "the store says that bo restored it" in (why_killed(store, ["m"]) or "")


def test_an_old_restore_lifts_no_new_order(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    restore(store, "m", by="bo", reason="s")
    with store.reading() as session:
        (old,) = session.query(KillRow).all()
    kill(store, "m", by="ada", reason="again")
    tamper(store, update(KillRow).values(restored_by="bo", restored=old.restored, restore_hash=old.restore_hash))
    assert why_killed(store, ["m"])


def test_the_difference_between_store_and_log_is_told(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    tamper(store, delete(KillRow))
    assert "holds it, and the store doesn't" in (why_killed(store, ["m"]) or "")


def test_an_order_that_only_the_log_holds_can_be_restored(store: Store) -> None:
    """As a kill leaves it that was cut off between its audit row and its commit."""
    kill(store, "m", by="ada", reason="r")
    tamper(store, delete(KillRow))
    restore(store, "m", by="bo", reason="s")
    assert why_killed(store, ["m"]) is None


def test_a_restore_that_was_cut_off_before_its_commit_lifts_nothing(store: Store) -> None:
    kill(store, "m", by="ada", reason="r")
    restore(store, "m", by="bo", reason="s")
    tamper(store, update(KillRow).values(restored_by=None, restore_reason=None, restored=None, restore_hash=None))
    assert "says that it was lifted" in (why_killed(store, ["m"]) or "")
    restore(store, "m", by="bo", reason="s")
    assert why_killed(store, ["m"]) is None


def test_a_restore_by_the_one_who_killed_is_void_in_the_log_too(store: Store, tmp_path: Path) -> None:
    order, _ = kill(store, "m", by="ada", reason="r")
    with AuditLog(tmp_path / "audit", "kill") as log:
        log.append("restored", "Ada", "m", {"reason": "s", "lifts": [order.hash]})
    tamper(store, update(KillRow).values(restored_by="Ada"))
    assert why_killed(store, ["m"])


def test_a_restore_of_another_target_is_void(store: Store, tmp_path: Path) -> None:
    order, _ = kill(store, "m", by="ada", reason="r")
    with AuditLog(tmp_path / "audit", "kill") as log:
        log.append("restored", "bo", "n", {"reason": "s", "lifts": [order.hash]})
    tamper(store, update(KillRow).values(restored_by="bo"))
    assert why_killed(store, ["m"])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def forge(path: Path) -> None:
    first, second = path.read_text().splitlines()
    row = json.loads(second)
    row["details"]["reason"] = "forged"
    path.write_text(f"{first}\n{json.dumps(row, sort_keys=True, separators=(',', ':'))}\n")


@pytest.mark.parametrize("change", [cut, forge, Path.unlink])
def test_a_broken_log_closes_everything_and_nothing_is_restored_by_it(
    store: Store, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    kill(store, "m", by="ada", reason="r")
    restore(store, "m", by="bo", reason="s")
    change(tmp_path / "audit" / "kill.jsonl")
    assert "is broken" in (why_killed(store, ["n"]) or "")
    with pytest.raises(StorageError):
        restore(store, "m", by="cy", reason="s")


def test_orders_of_two_writers_are_all_read(store: Store, tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", "kill"):
        kill(store, "m", by="ada", reason="r")
    assert (tmp_path / "audit" / "kill-2.jsonl").exists()
    restore(store, "m", by="bo", reason="s")
    assert why_killed(store, ["m"]) is None


def test_a_name_that_only_begins_like_the_chain_is_none_of_it(store: Store, tmp_path: Path) -> None:
    order, _ = kill(store, "m", by="ada", reason="r")
    with AuditLog(tmp_path / "audit", "killer") as log:
        log.append("restored", "bo", "m", {"reason": "s", "lifts": [order.hash]})
    tamper(store, update(KillRow).values(restored_by="bo"))
    assert why_killed(store, ["m"])


def test_orders_are_shown_oldest_first(store: Store, tmp_path: Path) -> None:
    for target in ("a", "b", "c"):
        kill(store, target, by="ada", reason="r")
    with store.reading() as session:
        orders = in_force(read_orders(session), KillLog(tmp_path / "audit"))
    assert [(order.target, order.note) for order in orders] == [("a", ""), ("b", ""), ("c", "")]
