"""`raysafe interventions list | apply | propose | confirm | decline | revert`: what is done about a running service.

throttle: at most --requests-per-minute, over all gateways. require_review: every answer is held for a reviewer.
shadow_block: guards in shadow mode are enforced. degrade: the trusted model answers (`raysafe serve --trusted`).
roll_back: the version before, of those that are approved, is served. quarantine: only reviewers and operators get
answers. kill: nobody does. Each reaches every gateway within a second, is in the audit log first, and is lifted by
another person than applied it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, By, Store
from raysafe.cli.confirmations import confirmations_json, exit_code, print_confirmations
from raysafe.cli.keys import moment, span
from raysafe.cli.kill import target_of
from raysafe.cli.output import print_json, print_table
from raysafe.control.intervention import Intervention, InterventionOrder, Kind
from raysafe.control.intervention_orders import apply, confirm, decline, list_interventions, propose, revert
from raysafe.control.leases import await_seen
from raysafe.control.people import person
from raysafe.oversight.roll_back import roll_back_of
from raysafe.records import store as records

Id = tyro.conf.Positional[str]
Model = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(help="What a service is called, or its model: name or name:version."),
]
Everything = Annotated[bool, tyro.conf.arg(name="all", help="Every model at every gateway.")]
Ended = Annotated[bool, tyro.conf.arg(name="all", help="What is over, declined or reverted too.")]
Why = Annotated[str, tyro.conf.arg(help="Why; kept with the intervention and in the audit log.")]
Rate = Annotated[float | None, tyro.conf.arg(help="Of a throttle.")]
Starts = Annotated[str | None, tyro.conf.arg(help="When it begins: a time (2027-01-31T08:00, UTC) or 2h from now.")]
Lasts = Annotated[
    str | None, tyro.conf.arg(name="for", help="How long it lasts: 30m, 12h, 2d. Until reverted by default.")
]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {
        "list": show_all,
        "apply": apply_one,
        "propose": propose_one,
        "confirm": confirm_one,
        "decline": decline_one,
        "revert": revert_one,
    }
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe interventions", description=__doc__)


def show_all(*, everything: Ended = False, store: Store = None, as_json: AsJson = False) -> int:
    """What is proposed, scheduled or in force, oldest first."""
    with records.open_store(store) as opened:
        found = list_interventions(opened, everything=everything)
    if as_json:
        print_json([each._asdict() | {"status": status} for each, status in found])
        return 0
    rows = [
        (
            each.id,
            each.kind + "".join(f" {value}" for value in each.options.values()),
            "everything" if each.target == "*" else each.target,
            status,
            each.applied_by or each.proposed_by,
            _time(each.starts or each.proposed),
            _time(each.until),
            each.reason + (f" ({each.note})" if each.note else ""),
        )
        for each, status in found
    ]
    print_table(("id", "intervention", "of", "state", "by", "from", "until", "reason"), rows)
    return 0


def apply_one(
    kind: tyro.conf.Positional[Kind],
    model: Model = None,
    *,
    reason: Why,
    everything: Everything = False,
    requests_per_minute: Rate = None,
    starts: Starts = None,
    lasts: Lasts = None,
    by: By = None,
    store: Store = None,
    as_json: AsJson = False,
) -> int:
    """Put an intervention in force, now or when it starts, and say which gateways follow.

    The exit code is 1 where a gateway has not confirmed within 2 s.
    """
    with records.open_store(store) as opened:
        order = _order(opened, kind, model, everything, requests_per_minute, starts, lasts)
        return _confirmed(opened, *apply(opened, order, by=person(by), reason=reason), as_json, "applied")


def propose_one(
    kind: tyro.conf.Positional[Kind],
    model: Model = None,
    *,
    reason: Why,
    everything: Everything = False,
    requests_per_minute: Rate = None,
    starts: Starts = None,
    lasts: Lasts = None,
    by: By = None,
    store: Store = None,
) -> int:
    """Ask for an intervention, which does nothing until another person confirms it."""
    with records.open_store(store) as opened:
        order = _order(opened, kind, model, everything, requests_per_minute, starts, lasts)
        found = propose(opened, order, by=person(by), reason=reason)
    print(f"{found.id} proposed: {found}")
    return 0


def confirm_one(intervention: Id, *, by: By = None, store: Store = None, as_json: AsJson = False) -> int:
    """Put in force what another person, or the monitor, proposed."""
    with records.open_store(store) as opened:
        return _confirmed(opened, *confirm(opened, intervention, by=person(by)), as_json, "applied")


def decline_one(intervention: Id, *, reason: Why, by: By = None, store: Store = None) -> int:
    """Say no to what is proposed."""
    with records.open_store(store) as opened:
        found = decline(opened, intervention, by=person(by), reason=reason)
    print(f"{found.id} declined by {found.ended_by}")
    return 0


def revert_one(intervention: Id, *, reason: Why, by: By = None, store: Store = None, as_json: AsJson = False) -> int:
    """Lift an intervention, as another person than applied it."""
    with records.open_store(store) as opened:
        return _confirmed(opened, *revert(opened, intervention, by=person(by), reason=reason), as_json, "reverted")


def _order(
    store: records.Store,
    kind: Kind,
    model: str | None,
    everything: bool,
    requests_per_minute: float | None,
    starts: str | None,
    lasts: str | None,
) -> InterventionOrder:
    target = target_of(store, model, everything)
    versions = roll_back_of(store, target) if kind == "roll_back" else None
    return InterventionOrder(
        kind=kind,
        target=target,
        requests_per_minute=requests_per_minute,
        to=versions and versions.to,
        away_from=versions and versions.away_from,
        starts=None if starts is None else moment(starts),
        duration_s=None if lasts is None else span(lasts).total_seconds(),
    )


def _confirmed(store: records.Store, found: Intervention, number: int, as_json: bool, did: str) -> int:
    confirmations = await_seen(store, number, lambda holder: found.concerns(frozenset(holder.names)))
    if as_json:
        print_json({"intervention": found._asdict(), "gateways": confirmations_json(confirmations)})
    else:
        print(f"{found.id} {did}: {found}")
        print_confirmations(confirmations, "follows", "no gateway serves it now; one that starts finds it")
    return exit_code(confirmations)


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value.astimezone(UTC):%m-%d %H:%M:%S}"
