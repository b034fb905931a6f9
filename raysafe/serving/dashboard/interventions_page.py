"""Interventions: what is in force, scheduled or proposed, with confirming and reverting by a second person."""

from __future__ import annotations

from starlette.responses import Response

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import apply, confirm, decline, list_interventions, propose, revert
from raysafe.control.kill_log import ALL
from raysafe.control.leases import await_seen
from raysafe.control.people import same_person
from raysafe.control.targets import check_target
from raysafe.errors import NotApproved
from raysafe.serving.dashboard.forms import Form
from raysafe.serving.dashboard.office import Office, Visit, in_thread

OFFERED = {
    "throttle": "throttle: at most so many requests a minute",
    "require_review": "require review: every answer is held for a person",
    "shadow_block": "enforce guards in shadow mode",
    "degrade": "degrade: the trusted model answers",
    "quarantine": "quarantine: only reviewers and operators get answers",
}
"""What the form asks for; a roll back names versions, and is the command line's, and a kill has its own page."""
DURATIONS = {"": "until it is reverted", "900": "15 minutes", "3600": "an hour", "86400": "a day"}


async def show(visit: Visit) -> Response:
    """Those that are proposed, scheduled or in force; with `all`, the others too. Newest first."""
    office, everything = visit.office, bool(visit.request.query_params.get("all"))
    found = await in_thread(list_interventions, office.store, everything=everything, audit=office.audit_folder)
    own = {each.id for each, _ in found if same_person(each.applied_by or each.proposed_by, visit.key.id)}
    return await visit.page(
        "interventions.html",
        "Interventions",
        interventions=found[::-1],
        own=own,
        everything=everything,
        offered=OFFERED,
        durations=DURATIONS,
        all=ALL,
        may_propose=visit.key.reviews_all,
        may_act="operator" in visit.key.scopes,
    )


async def act(visit: Visit) -> Response:
    """Propose, apply, confirm, decline or revert; raises ConfigError, NotApproved or StorageError."""
    step = visit.form.one_of("do", "propose", "apply", "confirm", "decline", "revert")
    if not (visit.key.reviews_all if step == "propose" else "operator" in visit.key.scopes):
        raise NotApproved(f"to {step} an intervention takes an operator's key")
    return visit.go("interventions", await in_thread(_do, visit.office, visit.form, step, visit.key.id))


def _do(office: Office, form: Form, step: str, by: str) -> str:
    """Take the step; the word for what was done."""
    store, audit, known = office.store, office.audit_folder, form.get("id")
    if step == "decline":
        decline(store, known, by=by, reason=form.note(), audit=audit)
        return "declined"
    if step == "propose":
        propose(store, _order(office, form), by=by, reason=form.note(), audit=audit)
        return "proposed"
    if step == "confirm":
        changed, number = confirm(store, known, by=by, audit=audit)
    elif step == "revert":
        changed, number = revert(store, known, by=by, reason=form.note(), audit=audit)
    else:
        changed, number = apply(store, _order(office, form), by=by, reason=form.note(), audit=audit)
    await_seen(store, number, lambda holder: changed.concerns(frozenset(holder.names)))
    return {"confirm": "confirmed", "revert": "reverted", "apply": "applied"}[step]


def _order(office: Office, form: Form) -> InterventionOrder:
    """What the form asks for; raises ConfigError."""
    target, kind = form.get("target"), form.one_of("kind", *OFFERED)
    check_target(office.store, target)
    duration, rate = form.one_of("duration_s", *DURATIONS), form.get("requests_per_minute").strip()
    values = {"kind": kind, "target": target, "duration_s": float(duration) if duration else None}
    if kind == "throttle":
        values["requests_per_minute"] = rate or None
    return InterventionOrder.parse(values, "the intervention")
