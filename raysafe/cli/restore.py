"""`raysafe restore MODEL | --all`: lift kill orders, by another person than gave them."""

from __future__ import annotations

from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, Store
from raysafe.cli.confirmations import confirmations_json, print_confirmations
from raysafe.cli.kill import Everything, Model, print_orders, target_of
from raysafe.cli.output import print_json
from raysafe.control.kill_log import KillLog
from raysafe.control.kill_orders import in_force, read_orders, restore
from raysafe.control.leases import await_seen
from raysafe.records.audit import audit_folder
from raysafe.records.store import open_store

Why = Annotated[str, tyro.conf.arg(help="Why; kept with the order and in the audit log.")]
By = Annotated[str, tyro.conf.arg(help="Who restores: another person than gave the order.")]


def main(argv: list[str]) -> int:
    """Parse the command line."""
    return tyro.cli(reopen, args=argv, prog="raysafe restore")


def reopen(
    model: Model = None,
    *,
    reason: Why,
    by: By,
    everything: Everything = False,
    store: Store = None,
    as_json: AsJson = False,
) -> int:
    """Lift every kill order on a model, or those on everything, as a second person.

    An order on everything and one on a model are lifted each by itself: what stays closed is shown.
    """
    with open_store(store) as opened:
        target = target_of(opened, model, everything)
        lifted, number = restore(opened, target, by=by, reason=reason)
        concerned = lifted[0].concerns
        confirmations = await_seen(opened, number, lambda holder: concerned(frozenset(holder.names)))
        with opened.reading() as session:
            left = in_force(read_orders(session), KillLog(audit_folder(opened.url)))
    if as_json:
        gateways = confirmations_json(confirmations)
        print_json({"lifted": [o._asdict() for o in lifted], "left": [o._asdict() for o in left], "gateways": gateways})
        return 0
    for order in lifted:
        print(f"lifted by {by}: {order}")
    print_confirmations(confirmations, "has seen it", "no gateway serves it now")
    if left:
        print("Still in force:")
        print_orders(left)
    return 0
