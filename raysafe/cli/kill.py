"""`raysafe kill MODEL | --all`: close a model, or everything, at every gateway, and say which of them have closed."""

from __future__ import annotations

from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, By, Store
from raysafe.cli.confirmations import confirmations_json, exit_code, print_confirmations
from raysafe.cli.output import print_json, print_table
from raysafe.control.kill_log import ALL, KillLog, Order
from raysafe.control.kill_orders import in_force, kill, read_orders
from raysafe.control.leases import await_seen, holders
from raysafe.control.people import person
from raysafe.control.targets import check_target
from raysafe.errors import ConfigError
from raysafe.records import store as records
from raysafe.records.audit import audit_folder

Model = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(help="What a service is called, or its model: name, name:version or digest."),
]
Everything = Annotated[bool, tyro.conf.arg(name="all", help="Every model at every gateway.")]
Why = Annotated[str | None, tyro.conf.arg(help="Why; kept with the order and in the audit log.")]
ShowList = Annotated[
    bool, tyro.conf.arg(name="list", help="Show the orders in force and the gateways, and change nothing.")
]


def main(argv: list[str]) -> int:
    """Parse the command line."""
    return tyro.cli(close, args=argv, prog="raysafe kill")


def close(
    model: Model = None,
    *,
    everything: Everything = False,
    reason: Why = None,
    by: By = None,
    show: ShowList = False,
    store: Store = None,
    as_json: AsJson = False,
) -> int:
    """Close a model, or everything, at every gateway: requests are refused and streams stop at their next chunk.

    Every gateway looks every 0.4 s, and one that can't look closes by itself within 1 s. The exit code is 1 where a
    gateway has not confirmed within 2 s. `raysafe restore` opens again, by a second person.
    """
    with records.open_store(store) as opened:
        if show:
            return _show(opened, as_json)
        target = target_of(opened, model, everything)
        if reason is None:
            raise ConfigError("a kill needs a reason: give --reason WHY")
        order, number = kill(opened, target, by=person(by), reason=reason)
        confirmations = await_seen(opened, number, lambda holder: order.concerns(frozenset(holder.names)))
    if as_json:
        print_json({"order": order._asdict(), "gateways": confirmations_json(confirmations)})
    else:
        print(f"{order}\naudit row {order.hash[:12]}")
        print_confirmations(confirmations, "closed", "no gateway serves it now; one that starts finds the order")
    return exit_code(confirmations)


def target_of(store: records.Store, model: str | None, everything: bool) -> str:
    """What is meant; raises ConfigError for a name that no gateway and no registered version goes by."""
    if everything == (model is not None):
        raise ConfigError("what is meant? Give the name of a model, or --all")
    if model is None:
        return ALL
    check_target(store, model)
    return model


def print_orders(orders: list[Order]) -> None:
    rows = [("everything" if o.target == ALL else o.target, o.by, o.time[:19], o.reason, o.note) for o in orders]
    print_table(("killed", "by", "time", "reason", "in force"), rows)


def _show(store: records.Store, as_json: bool) -> int:
    with store.reading() as session:
        stored, gateways = read_orders(session), holders(session)
    orders = in_force(stored, KillLog(audit_folder(store.url)))
    if as_json:
        print_json({"orders": [o._asdict() for o in orders], "gateways": [h._asdict() for h in gateways]})
        return 0
    if orders:
        print_orders(orders)
    else:
        print("no kill order is in force")
    rows = []
    for holder in gateways:
        hits = any(order.concerns(frozenset(holder.names)) for order in orders)
        rows.append(
            (holder.service, holder.place, ("closed" if hits else "open") if holder.live else "gone, or closed")
        )
    if rows:
        print_table(("service", "gateway", "state"), rows)
    return 0
