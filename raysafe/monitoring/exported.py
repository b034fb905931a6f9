"""The monitor's own metrics for Prometheus, through Ray's, where this process has joined a Ray cluster."""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from raysafe.monitoring.alert import SEVERITIES
from raysafe.monitoring.deliveries import owed
from raysafe.monitoring.window_store import newest_window
from raysafe.records.intervention_table import InterventionRow
from raysafe.records.monitor_tables import AlertRow, MonitorRow
from raysafe.records.store import Store, store_now

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "raysafe_monitor_in_charge": ("1 where this monitor is in charge", ()),
    "raysafe_monitor_windows_behind": ("Windows that gateways wrote and the monitor hasn't read", ()),
    "raysafe_alerts": ("Alerts that nobody has acknowledged", ("severity",)),
    "raysafe_alert_messages_owed": ("Messages that no sink has taken yet", ()),
    "raysafe_interventions": ("Interventions in force", ("kind",)),
}


class Exported:
    """Gauges; they do nothing in a process without Ray, and don't bring it in."""

    def __init__(self) -> None:
        self._gauges: dict[str, Any] = {}
        self._kinds: set[str] = set()

    def update(self, store: Store, in_charge: bool) -> None:
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        if not self._gauges:
            from ray.util.metrics import Gauge

            self._gauges = {name: Gauge(name, text, tag_keys=tags) for name, (text, tags) in GAUGES.items()}
        with store.reading() as session:
            found = figures(session, in_charge)
        # a kind that was in force once goes back to zero
        self._kinds |= {tags["kind"] for name, tags, _ in found if "kind" in tags}
        shown = {(name, *tags.values()): (tags, value) for name, tags, value in found}
        for kind in self._kinds:
            shown.setdefault(("raysafe_interventions", kind), ({"kind": kind}, 0.0))
        for (name, *_), (tags, value) in shown.items():
            self._gauges[name].set(value, tags=tags)


def figures(session: Session, in_charge: bool) -> list[tuple[str, dict[str, str], float]]:
    """Name, tags and value of each gauge."""
    now = store_now(session)
    read = session.scalar(select(func.max(MonitorRow.read_up_to))) or 0
    unseen = (AlertRow.resolved.is_(None), AlertRow.acknowledged.is_(None))
    counts = select(AlertRow.severity, func.count(AlertRow.id)).where(*unseen).group_by(AlertRow.severity)
    alerts = {row[0]: row[1] for row in session.execute(counts)}
    live = (InterventionRow.state == "applied", InterventionRow.starts <= now)
    kinds = select(InterventionRow.kind, func.count(InterventionRow.id)).where(
        *live, (InterventionRow.until.is_(None)) | (InterventionRow.until > now)
    )
    return [
        ("raysafe_monitor_in_charge", {}, float(in_charge)),
        ("raysafe_monitor_windows_behind", {}, float(max(0, newest_window(session) - read))),
        *(("raysafe_alerts", {"severity": name}, float(alerts.get(name, 0))) for name in SEVERITIES),
        ("raysafe_alert_messages_owed", {}, float(owed(session))),
        *(
            ("raysafe_interventions", {"kind": kind}, float(count))
            for kind, count in session.execute(kinds.group_by(InterventionRow.kind))
        ),
    ]
