"""Killing and restoring: orders in the store, where every gateway looks, each bound to its row in the audit log.

An order is in force where either of the two says so. Lifting one takes both: whoever can write the store alone can
close a service, and never open one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.control.kill_log import ALL, CHAIN, KillLog, Order
from raysafe.control.people import same_person
from raysafe.control.revision import bump
from raysafe.errors import ConfigError, NotApproved, StorageError
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.control_tables import KillRow
from raysafe.records.store import Store, store_now

LONGEST_TARGET, LONGEST_NAME = 300, 200


class Stored(NamedTuple):
    """An order as the store has it."""

    order: Order
    restored_by: str | None


def kill(store: Store, target: str, *, by: str, reason: str, audit: Path | None = None) -> tuple[Order, int]:
    """Close a target, or ALL; returns the order and the number of the change, which gateways confirm.

    The audit row is durable before the order is in force. Raises ConfigError without a name or reason.
    """
    _check(target, by, reason)
    # not alone, and the log is closed after the commit: neither another's work nor a far anchor may delay a kill
    with _log(store, audit) as log, store.session() as session:
        row = log.append("killed", by, target, {"reason": reason})
        session.add(KillRow(target=target, by=by, reason=reason, time=store_now(session), audit_hash=row.hash))
        return Order(target, by, reason, row.time, row.hash), bump(session)


def restore(store: Store, target: str, *, by: str, reason: str, audit: Path | None = None) -> tuple[list[Order], int]:
    """Lift all orders on a target, or on ALL; returns them and the number of the change.

    Raises NotApproved where `by` gave one of them, ConfigError where there is none, StorageError where the audit log
    of orders is broken, for nothing can be lifted by it.
    """
    _check(target, by, reason)
    with _log(store, audit) as log, store.session(alone=True) as session:
        known = KillLog(log.folder)
        if known.problems:
            raise StorageError(_broken(known))
        orders = [order for order in in_force(read_orders(session), known) if order.target == target]
        if not orders:
            raise ConfigError(f"nothing to restore: no kill order on {_named(target)} is in force")
        own = next((order for order in orders if same_person(order.by, by)), None)
        if own is not None:
            raise NotApproved(
                f"{by} killed {_named(target)} and can't restore it: a second person must, with --by NAME"
            )
        unknown = [order for order in orders if order.hash not in known.killed]
        if unknown:
            raise StorageError(
                f"the audit log in {known.folder} knows nothing of the order that {unknown[0]}: set RAYSAFE_AUDIT to "
                "the log that holds it"
            )
        row = log.append("restored", by, target, {"reason": reason, "lifts": [order.hash for order in orders]})
        now = store_now(session)
        lifted = {order.hash for order in orders}
        for stored in session.scalars(select(KillRow).where(KillRow.audit_hash.in_(lifted))):
            stored.restored_by, stored.restore_reason = by, reason
            stored.restored, stored.restore_hash = now, row.hash
        return orders, bump(session)


def read_orders(session: Session) -> list[Stored]:
    """All orders that the store has, oldest first, the lifted ones too."""
    rows = session.scalars(select(KillRow).order_by(KillRow.id))
    return [
        Stored(Order(row.target, row.by, row.reason, row.time.isoformat(), row.audit_hash), row.restored_by)
        for row in rows
    ]


def in_force(stored: Collection[Stored], log: KillLog) -> list[Order]:
    """The orders that hold, by the store or the log; a broken log is an order on everything."""
    found: dict[str, Order] = dict(log.open)
    for order, restored_by in stored:
        known = log.open.get(order.hash)
        if restored_by is None and known is None:
            note = f"only by the store, while the audit log in {log.folder} says that it was lifted"
            if order.hash not in log.killed:
                note = f"only by the store, while the audit log in {log.folder} doesn't hold it"
            found[order.hash] = order._replace(note=note)
        elif restored_by is not None and order.hash not in log.lifted:
            note = f"the store says that {restored_by} restored it, and the audit log in {log.folder} doesn't"
            found[order.hash] = (known or order)._replace(note=note)
    have = {order.hash for order, _ in stored}
    for key, order in found.items():
        if key not in have:
            found[key] = order._replace(note=f"the audit log in {log.folder} holds it, and the store doesn't")
    if log.problems:
        found["broken"] = Order(ALL, "the audit log", _broken(log), "", "broken")
    return sorted(found.values(), key=lambda order: order.time)


def why_killed(store: Store, names: Iterable[str], audit: Path | None = None) -> str | None:
    """The order that keeps what goes by any of these names closed; None where none does."""
    with store.reading() as session:
        stored = read_orders(session)
    orders = in_force(stored, KillLog(audit or audit_folder(store.url)))
    known = frozenset(names)
    return next((str(order) for order in orders if order.concerns(known)), None)


def _check(target: str, by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise ConfigError("a kill or a restore needs a name and a reason: give --by and --reason")
    if not target.strip():
        raise ConfigError("what is meant? Name a model, or give --all")
    if len(target) > LONGEST_TARGET or len(by) > LONGEST_NAME:
        raise ConfigError(f"a target has at most {LONGEST_TARGET} characters, and a name {LONGEST_NAME}")


def _log(store: Store, audit: Path | None) -> AuditLog:
    return AuditLog(audit or audit_folder(store.url), writer=CHAIN, unique=True)


def _named(target: str) -> str:
    return "everything" if target == ALL else f"'{target}'"


def _broken(log: KillLog) -> str:
    problems = "; ".join(log.problems)
    return f"the audit log of kill orders in {log.folder} is broken ({problems}): see `raysafe audit verify`"
