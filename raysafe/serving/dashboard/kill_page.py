"""The kill switch: orders in force, the gateways and how far they are, a kill with its confirmation, and a restore by
a second person."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from raysafe.control.kill_log import ALL, KillLog, Order
from raysafe.control.kill_orders import in_force, kill, read_orders, restore
from raysafe.control.leases import Holder, await_seen, holders
from raysafe.control.people import same_person
from raysafe.control.revision import read_revision
from raysafe.control.targets import check_target
from raysafe.errors import ConfigError, NotApproved
from raysafe.serving.dashboard.forms import Form
from raysafe.serving.dashboard.office import Office, Visit, in_thread

EVERYTHING = "everything"
"""What is typed to confirm an order on ALL."""


class Gateway(NamedTuple):
    """A gateway as its lease shows it, in words."""

    service: str
    place: str
    state: str


class Standing(NamedTuple):
    """Orders in force, by what they are on; the gateways; what may be named."""

    orders: list[Order]
    gateways: list[Gateway]
    targets: list[str]


async def show(visit: Visit) -> Response:
    standing = await in_thread(_standing, visit.office)
    by_target: dict[str, list[Order]] = {}
    for order in standing.orders:
        by_target.setdefault(order.target, []).append(order)
    own = {t for t, orders in by_target.items() if any(same_person(o.by, visit.key.id) for o in orders)}
    return await visit.page(
        "kill.html",
        "Kill switch",
        standing=standing,
        by_target=by_target,
        own=own,
        may_act="operator" in visit.key.scopes,
        all=ALL,
        everything=EVERYTHING,
    )


async def act(visit: Visit) -> Response:
    """Kill or restore, as the command line does; raises ConfigError, NotApproved or StorageError."""
    if "operator" not in visit.key.scopes:
        raise NotApproved("closing and opening a service takes a key of the scope operator")
    step = visit.form.one_of("do", "kill", "restore")
    await in_thread(_kill if step == "kill" else _restore, visit.office, visit.form, visit.key.id)
    return visit.go("kill", "killed" if step == "kill" else "restored")


def _kill(office: Office, form: Form, by: str) -> None:
    target, reason = form.get("target"), form.note()
    name = EVERYTHING if target == ALL else target
    if form.get("confirmation").strip() != name:
        raise ConfigError(f"type '{name}' into the confirmation to close it; nothing was done")
    check_target(office.store, target)
    order, number = kill(office.store, target, by=by, reason=reason, audit=office.audit_folder)
    await_seen(office.store, number, lambda holder: order.concerns(frozenset(holder.names)))


def _restore(office: Office, form: Form, by: str) -> None:
    lifted, number = restore(office.store, form.get("target"), by=by, reason=form.note(), audit=office.audit_folder)
    await_seen(office.store, number, lambda holder: lifted[0].concerns(frozenset(holder.names)))


def _standing(office: Office) -> Standing:
    with office.store.reading() as session:
        stored, leases, number = read_orders(session), holders(session), read_revision(session)
    orders = in_force(stored, KillLog(office.audit_folder))
    targets = sorted({office.service, *(holder.service for holder in leases if holder.live)})
    gateways = [Gateway(holder.service, holder.place, _state(holder, number, orders)) for holder in leases]
    return Standing(orders, gateways, targets)


def _state(holder: Holder, number: int, orders: list[Order]) -> str:
    if not holder.live:
        return "gone, or closed by itself"
    if holder.seen < number:
        return "has not confirmed the last change"
    return "closed" if any(order.concerns(frozenset(holder.names)) for order in orders) else "open"
