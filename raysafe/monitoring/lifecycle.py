"""The life of an alert, as pure functions: when it opens, escalates and is over, and when nobody is told of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from raysafe.monitoring.alert import Alert
from raysafe.monitoring.rules import Rule, Step
from raysafe.monitoring.silences import Silence
from raysafe.monitoring.stream import Condition

Event = Literal["opened", "escalated", "resolved"]
MONITOR = "the monitor"
"""Who resolves what is over of itself."""


class Told(NamedTuple):
    """An event that sinks are told of."""

    event: Event
    alert: Alert
    sinks: tuple[str, ...]


class Escalation(NamedTuple):
    """A deadline that has passed."""

    alert: Alert
    """As it is after the step."""
    step: Step


def opens(rule: Rule, condition: Condition) -> bool:
    """Whether a rule without an alert has one now: its condition has lasted for `for_s`."""
    return condition.since is not None and condition.lasted_s >= rule.for_s


def quieted(rule: Rule, alert: Alert, silences: Sequence[Silence], alerting: Collection[tuple[str, str]]) -> str | None:
    """Why nobody is told of an alert; None where they are. alerting: (rule, service) of all unresolved alerts."""
    for silence in silences:
        if silence.matches(alert.rule, alert.service):
            return str(silence)
    inhibitor = next((name for name in rule.inhibited_by if (name, alert.service) in alerting), None)
    return None if inhibitor is None else f"inhibited by the alert of '{inhibitor}'"


def escalate(rule: Rule, alert: Alert, now: datetime) -> list[Escalation]:
    """The steps whose deadline an unacknowledged alert has passed, in order; none while it is quiet."""
    found: list[Escalation] = []
    if alert.state != "open" or alert.quiet is not None:
        return found
    for step in rule.escalate[alert.level :]:
        if now - alert.opened < timedelta(seconds=step.after_s):
            break
        alert = alert._replace(level=alert.level + 1, severity=step.severity or alert.severity, updated=now)
        found.append(Escalation(alert, step))
    return found


def told(rule: Rule, event: Event, alert: Alert, everybody: tuple[str, ...], step: Step | None = None) -> Told:
    """Who hears of an event: the rule's sinks, and those of every step that the alert has reached."""
    base = everybody if rule.sinks is None else rule.sinks
    reached = [sink for known in rule.escalate[: alert.level] for sink in known.sinks]
    return Told(event, alert, tuple(dict.fromkeys((*base, *reached, *(step.sinks if step else ())))))
