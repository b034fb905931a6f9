"""An alert, and what it is told by: rule, service, severity, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from raysafe.records.monitor_tables import AlertRow

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
State = Literal["open", "acknowledged", "resolved"]


class Alert(NamedTuple):
    """One rule's alert on one service."""

    id: str
    rule: str
    service: str
    group: str
    """Alerts of one group are told of together."""
    severity: Severity
    metric: str
    summary: str
    value: float
    detections: int
    level: int
    """Escalations that have happened."""
    opened: datetime
    updated: datetime
    quiet: str | None = None
    """Why nobody is told of it now: a silence, or the alert that inhibits it."""
    acknowledged_by: str | None = None
    acknowledged: datetime | None = None
    note: str | None = None
    resolved: datetime | None = None
    resolved_by: str | None = None

    @property
    def state(self) -> State:
        if self.resolved is not None:
            return "resolved"
        return "open" if self.acknowledged is None else "acknowledged"

    def record(self) -> dict[str, Any]:
        """As JSON shows it, times in ISO 8601."""
        fields = self._asdict() | {"state": self.state}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


def read_alert(row: AlertRow) -> Alert:
    names = (name for name in Alert._fields if name != "group")
    return Alert(**{name: getattr(row, name) for name in names}, group=row.alert_group)
