"""A monitoring report on an approved model: period, metrics, compliance, incidents, recommendations; one page of HTML.

It says what was observed and what of the approval's terms is kept to; it decides nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from raysafe.control.intervention import Intervention
from raysafe.control.intervention_orders import list_interventions
from raysafe.monitoring.alert import Alert
from raysafe.monitoring.alerts import list_alerts
from raysafe.monitoring.figures import Figure, past_figures
from raysafe.oversight.committee.binding import changed_files
from raysafe.oversight.decisions import DecisionLog
from raysafe.oversight.incidents import Incident, Incidents, Wanted
from raysafe.oversight.safety_case import SafetyCase, load_case, why_not
from raysafe.records.audit import audit_folder
from raysafe.records.store import Store
from raysafe.runtime.report import Section, render_page

SOON_S = 30 * 86400.0
"""An approval that ends within this time asks for a review now: it is how long one lasts."""
Row = list[Any]


def committee_report(store: Store, reference: str, period_s: float, audit: Path | None = None) -> str:
    """The page. Raises ModelError for an unknown version, StorageError where the audit log can't be read."""
    case = load_case(store, reference)
    since = case.time - timedelta(seconds=period_s)
    names = frozenset({case.version.name, case.version.label, case.version.digest})
    log = audit or audit_folder(store.url)
    refusal = why_not(case, DecisionLog(log))
    changed = changed_files(case.decision.terms.files) if case.decision else None
    figures = [figure for name in sorted(names) for figure in past_figures(store, name, since, case.time)]
    incidents = _incidents(store, case, since, log)
    alerts = [a for name in sorted(names) for a in list_alerts(store, service=name, everything=True, limit=1000)]
    alerts = [alert for alert in alerts if alert.resolved is None or alert.resolved >= since]
    acts = [
        (each, status)
        for each, status in list_interventions(store, names, everything=True, audit=log)
        if status in ("proposed", "scheduled", "in force") or (each.applied is not None and each.applied >= since)
    ]
    unseen = _unseen(case, figures)
    open_alerts = [alert for alert in alerts if alert.resolved is None]
    held = [incident for incident in incidents if incident.state == "held"]
    advice = recommendations(case, refusal, changed, unseen, len(open_alerts), len(held))
    sections = [
        Section("Recommendations", table=[["what", "why"], *advice] if advice else (), text="" if advice else "None."),
        Section("Compliance", table=[["term", "kept to", "detail"], *compliance(case, refusal, changed, unseen)]),
        Section("Metrics", _nothing(figures, "Nothing was observed in this period."), table=_metrics(figures)),
        Section("Incidents", _counted(incidents), table=_incident_rows(incidents)),
        Section("Alerts", _nothing(alerts, "None."), table=_alert_rows(alerts)),
        Section("Interventions", _nothing(acts, "None."), table=_intervention_rows(acts)),
        Section("Evidence", table=_evidence(case)),
    ]
    under = f"{since:%Y-%m-%d %H:%M} to {case.time:%Y-%m-%d %H:%M} UTC · sha256 {case.version.digest[:12]}"
    return render_page(f"Monitoring report: {case.version.label}", under, sections)


def compliance(case: SafetyCase, refusal: str | None, changed: str | None, unseen: list[str]) -> list[Row]:
    """Each term of the approval, whether it is kept to, and how it is known; conditions in words are for people."""
    decision = case.decision
    rows: list[Row] = [["may be served", refusal is None, refusal or "approved, and the audit log confirms it"]]
    if decision is None:
        return rows
    terms = decision.terms
    who = f"{decision.outcome} by {decision.reviewer}, {decision.time:%Y-%m-%d}"
    rows.append(["decision", decision.outcome == "approved", f"{who}: {decision.reason}"])
    if terms.expires is not None:
        rows.append(["not expired", case.time < terms.expires, f"{terms.expires:%Y-%m-%d %H:%M} UTC"])
    rows.append(["evidence files unchanged", changed is None, changed or f"{len(terms.files)} files"])
    if terms.guards is not None:
        rows.append(["guards", "held to at start and at each change", terms.guards[:12]])
    rows += [[f"monitored: {metric}", metric not in unseen, ""] for metric in terms.monitored]
    rows += [["condition", "for a person to judge", condition] for condition in terms.conditions]
    rows += [["failure accepted", "known", name] for name in decision.accepted_failures]
    return rows


def recommendations(
    case: SafetyCase, refusal: str | None, changed: str | None, unseen: list[str], alerts: int, held: int
) -> list[Row]:
    """What should be done, and why: nothing where all is as it should be."""
    found: list[Row] = []
    label, expires = case.version.label, case.decision.terms.expires if case.decision else None
    if refusal is not None:
        found.append([f"don't serve {label}, or kill what serves it", refusal])
    if changed is not None:
        found.append([f"submit {label} again", f"evidence that the approval rests on: {changed}"])
    if refusal is None and expires is not None and expires - case.time < timedelta(seconds=SOON_S):
        found.append([f"submit {label} for review now", f"its approval ends at {expires:%Y-%m-%d %H:%M} UTC"])
    if unseen:
        found.append(["watch what the approval asks for", f"not observed in this period: {', '.join(unseen)}"])
    if alerts:
        found.append(["look at the open alerts", f"{alerts} open"])
    if held:
        found.append(["decide on what is held", f"{held} held: undecided, each is blocked at its time"])
    return found


def _unseen(case: SafetyCase, figures: list[Figure]) -> list[str]:
    seen = {figure.metric for figure in figures}
    return [metric for metric in (case.decision.terms.monitored if case.decision else ()) if metric not in seen]


def _incidents(store: Store, case: SafetyCase, since: datetime, log: Path) -> list[Incident]:
    return Incidents(store, log).read(Wanted(since=since, model=case.version.name))[0]


def _nothing(found: object, text: str) -> str:
    return "" if found else text


def _counted(incidents: list[Incident]) -> str:
    states = [incident.state for incident in incidents]
    said = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    return f"{len(incidents)} in this period: {said}." if incidents else "None."


def _metrics(figures: list[Figure]) -> list[Row]:
    rows: list[Row] = [[f.service, f.family, f.metric, f.count, f.mean, f.low, f.high] for f in figures]
    return [["service", "family", "metric", "observations", "mean", "low", "high"], *rows] if rows else []


def _incident_rows(incidents: list[Incident]) -> list[Row]:
    # never the texts: a report is passed on
    rows: list[Row] = [[i.time[:19], i.id, i.stage, i.guard, i.state] for i in incidents[-200:]]
    return [["time", "exchange", "stage", "guard", "state"], *rows] if rows else []


def _alert_rows(alerts: list[Alert]) -> list[Row]:
    rows: list[Row] = [[f"{a.opened:%Y-%m-%d %H:%M}", a.severity, a.summary, a.state, a.note] for a in alerts]
    return [["opened", "severity", "what", "state", "note"], *rows] if rows else []


def _intervention_rows(acts: list[tuple[Intervention, str]]) -> list[Row]:
    rows: list[Row] = [[each.kind, each.target, status, each.applied_by, each.reason] for each, status in acts]
    return [["kind", "target", "state", "by", "reason"], *rows] if rows else []


def _evidence(case: SafetyCase) -> list[Row]:
    rows: list[Row] = [[e.suite, e.metric, e.value, e.n, e.threshold, e.passed] for e in case.evidence]
    return [["suite", "figure", "value", "cases", "threshold", "passed"], *rows] if rows else []
