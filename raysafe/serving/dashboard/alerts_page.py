"""Alerts of the safety monitor: what is open, one beside the exchanges of its time, and what people say of it."""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import Response

from raysafe.control.intervention_orders import list_interventions
from raysafe.errors import NotApproved
from raysafe.monitoring.alert import Alert
from raysafe.monitoring.alerts import acknowledge, get_alert, list_alerts, resolve
from raysafe.monitoring.figures import monitor_state
from raysafe.monitoring.silences import end_silence, list_silences, silence
from raysafe.records.audit_read import search
from raysafe.serving.dashboard.office import Office, Visit, in_thread
from raysafe.serving.dashboard.traffic import Passage, passages, traffic_of
from raysafe.serving.wire.errors import ApiError

AROUND_S = 120.0
"""How long before an alert the exchanges that it may be about begin."""
SHOWN, ROWS = 25, 1000
HOURS = {"1": 1, "4": 4, "24": 24}


async def every(visit: Visit) -> Response:
    """Open alerts, newest first, and the silences in force; with `all`, the resolved ones too."""
    office, everything = visit.office, bool(visit.request.query_params.get("all"))
    return await visit.page(
        "alerts.html",
        "Alerts",
        alerts=await in_thread(list_alerts, office.store, everything=everything),
        everything=everything,
        silences=await in_thread(list_silences, office.store),
        monitors=await in_thread(monitor_state, office.store),
        hours=HOURS,
        may_act=visit.key.reviews_all,
    )


async def silences(visit: Visit) -> Response:
    """Begin or end a silence; raises ConfigError, or NotApproved for a tenant's own reviewer."""
    _check(visit)
    store, form, by = visit.office.store, visit.form, visit.key.id
    if form.one_of("do", "silence", "end") == "end":
        await in_thread(end_silence, store, form.get("id"), by=by, audit=visit.office.audit_folder)
        return visit.go("alerts", "unsilenced")
    hours = HOURS[form.one_of("hours", *HOURS)]
    rule, service = form.get("rule").strip(), form.get("service").strip()
    given = {"rule": rule, "service": service, "duration_s": hours * 3600.0, "reason": form.note()}
    await in_thread(silence, store, by=by, audit=visit.office.audit_folder, **given)
    return visit.go("alerts", "silenced")


async def show(visit: Visit) -> Response:
    """One alert, with what was stopped around its time and what was done about it; raises ApiError 404."""
    office, alert_id = visit.office, visit.request.path_params["id"]
    alert = await in_thread(get_alert, office.store, alert_id)
    if alert is None:
        raise ApiError(404, f"no alert is called '{alert_id[:64]}'", code="not_found")
    done = await in_thread(list_interventions, office.store, everything=True, audit=office.audit_folder)
    return await visit.page(
        "alert.html",
        f"Alert: {alert.rule}",
        alert=alert,
        stopped=await in_thread(_stopped, visit, alert),
        answers=[(each, status) for each, status in done if each.alert == alert.id],
        may_act=visit.key.reviews_all,
    )


async def say(visit: Visit) -> Response:
    """Acknowledge or resolve; raises ConfigError, or NotApproved for a tenant's own reviewer."""
    _check(visit)
    office, alert_id = visit.office, visit.request.path_params["id"]
    step = visit.form.one_of("do", "acknowledge", "resolve")
    said = {"by": visit.key.id, "note": visit.form.note(), "audit": office.audit_folder}
    await in_thread(acknowledge if step == "acknowledge" else resolve, office.store, alert_id, **said)
    return visit.go(f"alerts/{alert_id}", "acknowledged" if step == "acknowledge" else "resolved")


def _check(visit: Visit) -> None:
    if not visit.key.reviews_all:
        raise NotApproved("alerts concern every tenant: the house's own reviewers and operators act on them")


def _stopped(visit: Visit, alert: Alert) -> list[Passage]:
    """The exchanges that guards stopped or changed from a little before the alert until it was over, newest first."""
    office: Office = visit.office
    since = (alert.opened - timedelta(seconds=AROUND_S)).isoformat(timespec="microseconds")
    until = alert.resolved.isoformat(timespec="microseconds") if alert.resolved else ""
    keep = traffic_of(alert.service, visit.key)
    found = search(office.audit_folder, keep, most=ROWS, pattern="gateway-*", since=since, before=until)
    return [passage for passage in passages(found.rows) if passage.action != "allow"][:SHOWN]
