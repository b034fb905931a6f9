"""The monitor on either kind of store: locks, transactions and JSON columns are the database's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raysafe.control.intervention_orders import list_interventions
from raysafe.monitoring.alerts import list_alerts
from raysafe.records.store import Store
from tests.monitoring.test_monitor import Clock, House, alerting


@pytest.fixture
def house(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(store, Clock(monkeypatch), tmp_path)
    yield made
    made.audit.close()


def test_an_alert_opens_escalates_intervenes_and_resolves(house: House) -> None:
    alerting(house, group="g")
    house.clock.pass_s(130)
    house.tick()
    house.tick()
    assert [(each.kind, status) for each, status in list_interventions(house.store)] == [("degrade", "in force")]
    house.clock.pass_s(10)
    house.observe("performance.errors", [0.0])
    assert [alert.state for alert in list_alerts(house.store, everything=True)] == ["resolved"]
    events = [events for sink, events in house.messages() if sink == "log"]
    assert events == [["opened"], ["escalated", "escalated"], ["resolved"]]
