"""The monitor over planted windows: what fires, what is told, what is done, and that a restart loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sqlalchemy import select

from raysafe.control.intervention_orders import list_interventions
from raysafe.errors import StorageError
from raysafe.monitoring.alerts import acknowledge, list_alerts, resolve
from raysafe.monitoring.monitor import Monitor
from raysafe.monitoring.rules_file import RulesFile
from raysafe.monitoring.silences import end_silence, silence
from raysafe.monitoring.window_store import write_windows
from raysafe.monitoring.windows import WindowBuilder
from raysafe.records.audit import AuditLog, audit_folder, read_rows
from raysafe.records.monitor_tables import DeliveryRow
from raysafe.records.store import Store, open_store

START = datetime(2026, 11, 26, tzinfo=UTC)
DRIFT: dict[str, Any] = {
    "name": "drift",
    "metric": "behaviour.repetition",
    "detector": {"kind": "cusum", "side": "high"},
    "calibration": {"values": 200, "average_run_length": 200},
    "clear_after": 60,
}
ERRORS: dict[str, Any] = {
    "name": "errors",
    "metric": "performance.errors",
    "limit": {"above": 0.5, "clear": 0.1, "over_s": 10},
}


class Clock:
    """The store's clock, as the test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        for module in ("monitor", "deliveries", "silences", "alerts", "lease", "window_store"):
            monkeypatch.setattr(f"raysafe.monitoring.{module}.store_now", lambda session: self.now)

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class House:
    """A store, a clock and a monitor of some rules; `rest` are the file's other fields."""

    def __init__(self, store: Store, clock: Clock, folder: Path) -> None:
        self.store, self.clock, self.path = store, clock, folder / "rules.yaml"
        self.audit = AuditLog(audit_folder(store.url), writer="monitor", unique=True)
        self.draw = np.random.default_rng(1)
        self.monitor: Monitor

    def begin(self, *rules: dict[str, Any], **rest: Any) -> None:
        self.write(*rules, **rest)
        self.restart()

    def write(self, *rules: dict[str, Any], **rest: Any) -> None:
        sinks = [{"kind": "log", "name": "log"}, {"kind": "log", "name": "pager"}]
        self.path.write_text(yaml.safe_dump({"name": "test", "sinks": sinks, "rules": list(rules), **rest}) + "...\n")

    def restart(self) -> None:
        self.monitor = Monitor(self.store, RulesFile(self.path), self.audit)
        self.clock.pass_s(60)
        assert self.monitor.lease.take("test")

    def observe(self, metric: str, values: Any, service: str = "m", seconds: float = 1.0) -> None:
        """Write a window and look."""
        builder = WindowBuilder()
        builder.add((metric, float(value)) for value in values)
        write_windows(self.store, service, "g", [(self.clock.now, builder.close(seconds))])
        self.clock.pass_s(seconds)
        self.tick()

    def tick(self) -> None:
        assert self.monitor.lease.take("test")
        assert self.monitor.tick()

    def repetition(self, shift: float, count: int = 200, service: str = "m") -> None:
        for values in np.split(self.draw.normal(shift, 1.0, count), max(1, count // 20)):
            self.observe("behaviour.repetition", values, service)

    def steps(self, *chains: str) -> list[tuple[str, str]]:
        """Kind and subject of all audit rows of some chains, in the order of time."""
        found: list[dict[str, Any]] = []
        for chain in chains or ("monitor",):
            path = audit_folder(self.store.url) / f"{chain}.jsonl"
            found += [row for _, row in read_rows(path) if row] if path.exists() else []
        return [(row["kind"], row["subject"]) for row in sorted(found, key=lambda row: row["time"])]

    def messages(self) -> list[tuple[str, list[str]]]:
        with self.store.reading() as session:
            rows = session.scalars(select(DeliveryRow).order_by(DeliveryRow.created, DeliveryRow.sink))
            return [(row.sink, [event["event"] for event in row.body["events"]]) for row in rows]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A file: most of what a monitor does depends on no database. test_monitor_postgresql.py has what may."""
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as opened:
        yield opened


@pytest.fixture
def house(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(store, Clock(monkeypatch), tmp_path)
    yield made
    made.audit.close()


def test_a_drift_fires_and_its_end_resolves(house: House) -> None:
    house.begin(DRIFT | {"calibration": {"values": 200, "average_run_length": 500}})
    house.repetition(0.0, 260)
    assert list_alerts(house.store) == []
    house.repetition(3.0, 40)
    [alert] = list_alerts(house.store)
    assert (alert.rule, alert.service, alert.state, alert.severity) == ("drift", "m", "open", "warning")
    assert alert.detections > 1 and "went high" in alert.summary
    house.repetition(-0.5, 100)
    [alert] = list_alerts(house.store, everything=True)
    assert (alert.state, alert.resolved_by) == ("resolved", "the monitor")
    assert house.steps() == [("alert opened", alert.id), ("alert resolved", alert.id)]
    assert [events for sink, events in house.messages() if sink == "log"] == [["opened"], ["resolved"]]


def test_stationary_traffic_fires_nothing(house: House) -> None:
    house.begin(DRIFT | {"calibration": {"values": 200, "average_run_length": 500}})
    house.repetition(0.0, 300)
    assert house.steps() == [] and house.messages() == []


def test_each_service_is_watched_by_itself(house: House) -> None:
    house.begin(DRIFT | {"services": ["m", "n"]})
    for service in ("m", "n", "other"):
        house.repetition(0.0, 200, service)
    house.repetition(4.0, 40, "n")
    house.repetition(4.0, 40, "other")
    assert [alert.service for alert in list_alerts(house.store)] == ["n"]


def test_a_change_of_the_tools_that_are_called_fires(house: House) -> None:
    tools = {"name": "tools", "metric": "safety.tools", "detector": {"kind": "psi", "reference": 100, "window": 50}}
    house.begin(tools | {"calibration": {"values": 400, "average_run_length": 200}})

    def call(share: float, windows: int) -> None:
        for _ in range(windows):
            builder = WindowBuilder()
            for mail in house.draw.random(20) < share:
                builder.count("safety.tools", "send_mail" if mail else "search")
            write_windows(house.store, "m", "g", [(house.clock.now, builder.close(1.0))])
            house.clock.pass_s(1)
            house.tick()

    call(0.1, 23)
    assert list_alerts(house.store) == []
    call(0.8, 5)
    [alert] = list_alerts(house.store)
    assert "safety.tools changed: psi" in alert.summary


def test_a_limit_has_hysteresis(house: House) -> None:
    house.begin(ERRORS)
    states = []
    for share in (0.4, 0.6, 0.4, 0.2, 0.05, 0.4, 0.9):
        house.observe("performance.errors", [share], seconds=10)
        states.append(len(list_alerts(house.store)))
    assert states == [0, 1, 1, 1, 0, 0, 1]


def test_a_condition_must_last(house: House) -> None:
    house.begin(ERRORS | {"for_s": 25})
    opened = []
    for share in (0.9, 0.9, 0.0, 0.9, 0.9, 0.9, 0.9):
        house.observe("performance.errors", [share], seconds=10)
        opened.append(len(list_alerts(house.store)))
    assert opened == [0, 0, 0, 0, 0, 0, 1]


def test_too_few_values_say_nothing(house: House) -> None:
    house.begin(ERRORS | {"limit": {"above": 0.5, "least": 10, "over_s": 10}})
    house.observe("performance.errors", [1.0] * 9)
    assert list_alerts(house.store) == []
    house.observe("performance.errors", [1.0])
    assert len(list_alerts(house.store)) == 1


STEPS: list[dict[str, Any]] = [
    {"after_s": 60, "severity": "critical", "sinks": ["pager"]},
    {"after_s": 120, "intervention": {"kind": "degrade", "duration_s": 600}},
]


def alerting(house: House, **more: Any) -> str:
    """An alert that stays, of a rule with two steps; its id."""
    house.begin(ERRORS | {"sinks": ["log"], "escalate": STEPS} | more)
    house.observe("performance.errors", [1.0])
    [alert] = list_alerts(house.store)
    return alert.id


def test_an_alert_that_nobody_acknowledges_escalates_by_its_deadlines(house: House) -> None:
    alert_id = alerting(house)
    house.clock.pass_s(58)
    house.tick()
    assert [alert.level for alert in list_alerts(house.store)] == [0]
    house.clock.pass_s(2)
    house.tick()
    assert [(alert.level, alert.severity) for alert in list_alerts(house.store)] == [(1, "critical")]
    assert list_interventions(house.store) == []
    house.clock.pass_s(60)
    house.tick()
    house.tick()
    [(degrade, _)] = list_interventions(house.store, everything=True)
    assert (degrade.kind, degrade.target, degrade.alert) == ("degrade", "m", alert_id)
    assert degrade.applied_by is not None and degrade.applied_by.startswith("monitor test")
    assert house.steps("monitor", "interventions") == [
        ("alert opened", alert_id),
        ("alert escalated", alert_id),
        ("alert escalated", alert_id),
        ("intervention applied", "m"),
    ]
    assert house.messages() == [
        ("log", ["opened"]),
        ("log", ["escalated"]),
        ("pager", ["escalated"]),
        ("log", ["escalated"]),
        ("pager", ["escalated"]),
    ]


def test_an_acknowledged_alert_escalates_no_further(house: House) -> None:
    alert_id = alerting(house)
    acknowledge(house.store, alert_id, by="ada", note="I look")
    house.clock.pass_s(500)
    house.tick()
    assert [alert.level for alert in list_alerts(house.store)] == [0]


def test_an_intervention_on_confirmation_is_only_proposed(house: House) -> None:
    alerting(house, escalate=[{"after_s": 0, "intervention": {"kind": "quarantine", "confirm": True}}])
    assert [(each.kind, status) for each, status in list_interventions(house.store)] == [("quarantine", "proposed")]


def test_an_intervention_that_cannot_be_made_is_recorded_and_stops_nothing(house: House) -> None:
    alert_id = alerting(house, escalate=[{"after_s": 0, "intervention": {"kind": "roll_back"}}])
    house.tick()
    assert list_interventions(house.store) == []
    assert house.steps()[-2:] == [("alert escalated", alert_id), ("intervention failed", "m")]


def test_a_silenced_alert_tells_nobody_and_waits_to_escalate(house: House) -> None:
    made = silence(house.store, rule="errors", duration_s=3600, by="ada", reason="a trial")
    alerting(house)
    house.clock.pass_s(500)
    house.tick()
    [alert] = list_alerts(house.store)
    assert alert.level == 0 and alert.quiet is not None and "silenced by ada" in alert.quiet
    assert house.messages() == []
    end_silence(house.store, made.id, by="ada")
    house.tick()
    assert [alert.level for alert in list_alerts(house.store)] == [2]
    assert [events for sink, events in house.messages() if sink == "log"] == [["opened", "escalated", "escalated"]]


def test_an_alert_is_inhibited_while_the_other_rule_alerts(house: House) -> None:
    slow = ERRORS | {"name": "slow", "metric": "performance.seconds", "inhibited_by": ["errors"], "sinks": ["log"]}
    house.begin(ERRORS | {"sinks": ["pager"]}, slow)
    house.observe("performance.errors", [1.0], seconds=10)
    house.observe("performance.seconds", [9.0], seconds=10)
    assert [(sink, events) for sink, events in house.messages()] == [("pager", ["opened"])]
    house.observe("performance.errors", [0.0], seconds=10)
    assert house.messages()[1:] == [("log", ["opened"]), ("pager", ["resolved"])]


def test_alerts_of_a_group_are_told_together(house: House) -> None:
    other = ERRORS | {"name": "slow", "metric": "performance.seconds"}
    house.begin(ERRORS | {"group": "g"}, other | {"group": "g"}, group_wait_s=30)
    house.observe("performance.errors", [1.0])
    house.observe("performance.seconds", [9.0])
    assert house.messages() == [("log", ["opened", "opened"]), ("pager", ["opened", "opened"])]


def test_what_a_person_resolved_opens_again_by_new_values_only(house: House) -> None:
    alert_id = alerting(house)
    resolve(house.store, alert_id, by="ada", note="a test")
    for _ in range(3):
        house.tick()
    assert list_alerts(house.store) == []
    house.observe("performance.errors", [1.0])
    [again] = list_alerts(house.store)
    assert again.id != alert_id


@pytest.mark.parametrize("at", range(12))
def test_a_monitor_that_is_killed_is_followed_by_one_that_goes_on_as_if_nothing_had_been(
    house: House, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost before a commit, after it, or between an intervention and the next commit."""
    house.begin(DRIFT | {"escalate": [{"after_s": 0, "intervention": {"kind": "degrade"}}]})
    house.repetition(0.0, 200)

    def lost(*given: Any, **more: Any) -> Any:
        raise StorageError("killed here")

    place = ("_keep", "_advance", "_act")[at % 3]
    for number in range(8):
        if number == at // 3 + 1:
            with monkeypatch.context() as broken, pytest.raises(StorageError):
                broken.setattr(Monitor, place, lost)
                house.repetition(3.0, 20)
            house.restart()
            house.tick()
        else:
            house.repetition(3.0, 20)
    [alert] = list_alerts(house.store, everything=True)
    assert len(list_interventions(house.store)) == 1
    assert house.messages() == [("log", ["opened", "escalated"]), ("pager", ["opened", "escalated"])]
    assert alert.level == 1


def test_only_one_of_two_monitors_is_in_charge(house: House) -> None:
    house.begin(ERRORS)
    second = Monitor(house.store, RulesFile(house.path), house.audit)
    assert not second.lease.take("test")
    assert not second.tick()
    house.clock.pass_s(11)
    assert second.lease.take("test")
    assert second.tick() and not house.monitor.tick()
    second.lease.give_back()
    assert house.monitor.lease.take("test")


def test_changed_rules_are_followed_and_bad_ones_refused(house: House) -> None:
    alert_id = alerting(house)
    house.path.write_text("name: test\nrules: []\n...\n")
    for _ in range(3):
        house.tick()
    assert house.steps()[-1] == ("rules", "test")
    assert [rule.name for rule in house.monitor.rules.rules] == ["errors"]
    house.write(DRIFT)
    for _ in range(3):
        house.tick()
    assert [rule.name for rule in house.monitor.rules.rules] == ["drift"]
    assert house.steps()[-1] == ("alert resolved", alert_id)


def test_a_half_written_file_is_not_followed(house: House) -> None:
    house.begin(ERRORS, DRIFT)
    house.path.write_text(house.path.read_text().split("- calibration")[0])
    for _ in range(3):
        house.tick()
    assert len(house.monitor.rules.rules) == 2


def test_a_changed_rule_calibrates_anew(house: House) -> None:
    house.begin(DRIFT)
    house.repetition(0.0, 200)

    def progress() -> str:
        return house.monitor.streams()["drift", "m"].progress

    assert progress() == "watching"
    house.write(DRIFT | {"severity": "critical"})
    for _ in range(2):
        house.tick()
    assert progress() == "watching"
    house.write(DRIFT | {"calibration": DRIFT["calibration"] | {"seed": 1}})
    for _ in range(2):
        house.tick()
    assert progress() == "calibrating: 0 of 200 values"
