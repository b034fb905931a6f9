"""The monitor: reads what gateways observed, applies the rules, and acts; every step is in the audit log first.

A tick reads new windows, feeds the rules' streams, and commits the alerts, what sinks are owed, the detectors' memory
and how far it has read in one transaction, under the lease. So a monitor that is killed, or loses its lease, is
followed by one that goes on where its last commit stands.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.errors import ConfigError
from raysafe.monitoring.acting import Approved, act, nowhere
from raysafe.monitoring.alert import Alert, read_alert
from raysafe.monitoring.deliveries import enqueue, sweep
from raysafe.monitoring.lease import Lease
from raysafe.monitoring.lifecycle import MONITOR, Told, escalate, opens, quieted, told
from raysafe.monitoring.rules import Rule, Rules
from raysafe.monitoring.rules_file import RulesFile
from raysafe.monitoring.silences import read_silences
from raysafe.monitoring.stream import Condition, Stream
from raysafe.monitoring.window_store import Observed, read_windows
from raysafe.records.audit import AuditLog
from raysafe.records.monitor_tables import AlertRow, MonitorRow
from raysafe.records.store import Store, store_now

logger = logging.getLogger(__name__)
Key = tuple[str, str]
"""Rule and service."""


class Monitor:
    """One monitor. `tick` is called again and again while `lease` is held, which its caller renews."""

    def __init__(
        self,
        store: Store,
        file: RulesFile,
        audit: AuditLog,
        *,
        approved: Approved = nowhere,
        folder: Path | None = None,
    ) -> None:
        """folder: of the audit log, for interventions; the store's by default."""
        self._store, self._file, self._audit, self._approved = store, file, audit, approved
        self._folder = folder
        self.lease = Lease(store, file.rules.name)
        self._loaded = False
        self._streams: dict[Key, Stream] = {}
        self._read_up_to = 0
        self._gone: list[Key] = []
        """Streams of rules that are in the file no more."""
        self._due: list[dict[str, Any]] = []

    @property
    def rules(self) -> Rules:
        return self._file.rules

    @property
    def actor(self) -> str:
        """Who the audit log says acts."""
        return f"monitor {self.rules.label}"

    def streams(self) -> dict[Key, Stream]:
        return dict(self._streams)

    def tick(self) -> bool:
        """One look and what follows; False where another monitor is in charge. Raises StorageError, and then what was
        not committed is read anew."""
        self._follow_rules()
        done = False
        try:
            done = self._tick()
        finally:
            self._loaded = done
        return done

    def _tick(self) -> bool:
        if not self._loaded and not self._load():
            return False
        with self._store.reading() as session:
            found = read_windows(session, self._read_up_to)
        for observed in found:
            self._feed(observed)
        with self._store.session(alone=True) as session:
            row = self.lease.held(session)
            if row is None:
                return False
            self._advance(session, store_now(session))
            self._keep(row, found)
        self._act()
        return True

    def _follow_rules(self) -> None:
        change = self._file.look()
        if change is None:
            return
        if change.rules is None:
            logger.error("the changed rules were refused, and those in force stay: %s", change.reason)
            details = {"accepted": False, "in_force": self.rules.label, "reason": change.reason}
        else:
            details = {"accepted": True, "in_force": self.rules.label, "sha256": self.rules.digest}
            self._loaded = False
        self._audit.append("rules", self.actor, self.rules.name, details)

    def _load(self) -> bool:
        """Go on where the last commit stands; False where another monitor is in charge."""
        with self._store.reading() as session:
            row = session.get(MonitorRow, self.lease.name)
            if row is None or row.holder != self.lease.holder:
                return False
            state = dict(row.state)
            self._read_up_to = row.read_up_to
        kept = {(rule, service): values for rule, service, values in state.get("streams", [])}
        by_name = {rule.name: rule for rule in self.rules.rules}
        self._streams = {
            key: Stream.restored(by_name[key[0]], values) for key, values in kept.items() if key[0] in by_name
        }
        self._gone = [key for key in kept if key[0] not in by_name]
        self._due = list(state.get("due", []))
        return True

    def _feed(self, observed: Observed) -> None:
        for rule in self.rules.rules:
            if rule.services and observed.service not in rule.services:
                continue
            stream = self._streams.setdefault((rule.name, observed.service), Stream(rule))
            try:
                stream.feed(observed)
            except ConfigError as error:
                # values that no limit can be set on: said, and begun anew, for the other rules must go on
                logger.error("the rule '%s' of '%s': %s", rule.name, observed.service, error)
                self._streams[rule.name, observed.service] = Stream(rule)

    def _advance(self, session: Session, now: datetime) -> None:
        """Open, resolve and escalate; each in the audit log before the transaction is committed."""
        rows = {
            (row.rule, row.service): row
            for row in session.scalars(select(AlertRow).where(AlertRow.resolved.is_(None)).with_for_update())
        }
        events: list[Told] = []
        fresh: set[Key] = set()
        for key, stream in self._streams.items():
            condition = stream.condition()
            if key in rows:
                events += self._update(rows, key, stream.rule, condition, now)
            elif stream.alert is not None:
                # a person has resolved it: it takes new values to say otherwise
                stream.clear()
            elif opens(stream.rule, condition):
                rows[key] = self._open(session, stream.rule, key[1], condition, now)
                stream.alert = rows[key].id
                fresh.add(key)
        events += self._retire(rows, now)
        silences = read_silences(session, now)
        for key, row in rows.items():
            stream = self._streams.get(key)
            if stream is None or row.resolved is not None:
                continue
            events += self._tell(
                stream.rule, row, quieted(stream.rule, read_alert(row), silences, set(rows)), key in fresh, now
            )
        enqueue(session, events, now, self.rules.group_wait_s)
        sweep(session, now)

    def _open(self, session: Session, rule: Rule, service: str, condition: Condition, now: datetime) -> AlertRow:
        row = AlertRow(
            id=f"al-{token_hex(5)}",
            rule=rule.name,
            service=service,
            alert_group=rule.group or rule.name,
            severity=rule.severity,
            metric=rule.metric,
            summary=condition.summary,
            value=condition.value,
            detections=max(1, condition.detections),
            level=0,
            opened=now,
            updated=now,
        )
        self._record("alert opened", row, {"severity": row.severity, "summary": row.summary})
        session.add(row)
        session.flush()
        return row

    def _update(
        self, rows: dict[Key, AlertRow], key: Key, rule: Rule, condition: Condition, now: datetime
    ) -> list[Told]:
        """More detections, or the end, of an alert that is there already."""
        row = rows[key]
        if condition.since is None:
            return self._resolve(rows, key, rule, now, "the condition holds no more")
        if condition.detections:
            row.detections += condition.detections
            row.value, row.summary, row.updated = condition.value, condition.summary, now
        return []

    def _resolve(self, rows: dict[Key, AlertRow], key: Key, rule: Rule | None, now: datetime, why: str) -> list[Told]:
        row = rows.pop(key)
        if key in self._streams:
            self._streams[key].alert = None
        self._record("alert resolved", row, {"note": why})
        row.resolved, row.resolved_by, row.note = now, MONITOR, row.note or why
        if rule is None or row.quiet is not None:
            return []
        return [told(rule, "resolved", read_alert(row), self._everybody)]

    def _retire(self, rows: dict[Key, AlertRow], now: datetime) -> list[Told]:
        """The end of alerts whose rule is in the file no more."""
        gone, self._gone = [key for key in self._gone if key in rows], []
        return [event for key in gone for event in self._resolve(rows, key, None, now, "its rule is gone")]

    def _tell(self, rule: Rule, row: AlertRow, quiet: str | None, fresh: bool, now: datetime) -> list[Told]:
        """What is told of an alert that goes on: that it opened, and each deadline that it has passed."""
        was_quiet, row.quiet = row.quiet is not None, quiet
        events = []
        if quiet is None and (fresh or was_quiet) and row.acknowledged is None:
            events.append(told(rule, "opened", read_alert(row), self._everybody))
        for alert, step in escalate(rule, read_alert(row), now):
            row.level, row.severity, row.updated = alert.level, alert.severity, now
            details = {"level": alert.level, "severity": alert.severity, "after_s": step.after_s}
            if step.intervention is not None:
                details["intervention"] = step.intervention.model_dump(mode="json", exclude_none=True)
                self._due.append(self._due_of(alert, details["intervention"]))
            self._record("alert escalated", row, details)
            events.append(told(rule, "escalated", alert, self._everybody, step))
        return events

    def _due_of(self, alert: Alert, intervention: dict[str, Any]) -> dict[str, Any]:
        return {
            "alert": alert.id,
            "service": alert.service,
            "summary": f"alert {alert.id} of '{alert.rule}': {alert.summary}",
            "intervention": intervention,
        }

    def _keep(self, row: MonitorRow, found: list[Observed]) -> None:
        if found:
            self._read_up_to = found[-1].id
        row.read_up_to = self._read_up_to
        streams = [(rule, service, stream.state()) for (rule, service), stream in self._streams.items()]
        row.state = {"streams": streams, "due": list(self._due)}

    def _act(self) -> None:
        """Do what is due; a crash before the next commit has it done once all the same."""
        while self._due:
            act(self._store, self._audit, self._due[0], by=self.actor, approved=self._approved, folder=self._folder)
            self._due.pop(0)

    def _record(self, kind: str, row: AlertRow, details: dict[str, Any]) -> None:
        self._audit.append(kind, self.actor, row.id, {"rule": row.rule, "service": row.service, **details})

    @property
    def _everybody(self) -> tuple[str, ...]:
        return tuple(sink.name for sink in self.rules.sinks)
