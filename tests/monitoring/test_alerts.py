"""What people say of alerts and silences: recorded before it counts, and only of what is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from raysafe.errors import ConfigError, RaySafeError
from raysafe.monitoring.alerts import acknowledge, get_alert, list_alerts, resolve
from raysafe.monitoring.silences import end_silence, list_silences, silence
from raysafe.records.audit import audit_folder, read_rows
from raysafe.records.monitor_tables import AlertRow
from raysafe.records.store import Store, store_now


def put(store: Store, alert_id: str = "al-1", minutes: float = 0, **fields: Any) -> None:
    with store.session() as session:
        now = store_now(session) + timedelta(minutes=minutes)
        values: dict[str, Any] = {"rule": alert_id, "service": "m", "alert_group": "drift", "severity": "warning"}
        values |= {"metric": "behaviour.repetition", "summary": "it repeats itself", "value": 0.9, "detections": 1}
        session.add(AlertRow(id=alert_id, level=0, opened=now, updated=now, **values | fields))


def rows(store: Store) -> list[tuple[str, str, str]]:
    path = audit_folder(store.url) / "alerts.jsonl"
    return [(row["kind"], row["actor"], row["subject"]) for _, row in read_rows(path) if row] if path.exists() else []


def test_an_alert_is_acknowledged_once_and_then_resolved(store: Store) -> None:
    put(store)
    assert acknowledge(store, "al-1", by="ada", note="I look").state == "acknowledged"
    with pytest.raises(ConfigError, match="acknowledged by ada already"):
        acknowledge(store, "al-1", by="bo", note="me too")
    found = resolve(store, "al-1", by="bo", note="a bad prompt")
    assert (found.state, found.acknowledged_by, found.resolved_by, found.note) == (
        "resolved",
        "ada",
        "bo",
        "a bad prompt",
    )
    assert rows(store) == [("alert acknowledged", "ada", "al-1"), ("alert resolved", "bo", "al-1")]


@pytest.mark.parametrize("say", [acknowledge, resolve])
def test_nothing_is_said_of_what_is_not_there_or_over(store: Store, say: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no alert is called"):
        say(store, "al-9", by="ada", note="n")
    put(store)
    resolve(store, "al-1", by="ada", note="n")
    with pytest.raises(ConfigError, match="is over"):
        say(store, "al-1", by="ada", note="n")
    with pytest.raises(ConfigError, match="who and why"):
        say(store, "al-1", by="ada", note=" ")


def test_alerts_are_listed_newest_first_without_the_resolved(store: Store) -> None:
    for number in range(3):
        put(store, f"al-{number}", number)
    resolve(store, "al-1", by="ada", note="n")
    assert [alert.id for alert in list_alerts(store)] == ["al-2", "al-0"]
    assert [alert.id for alert in list_alerts(store, everything=True, limit=2)] == ["al-2", "al-1"]
    assert list_alerts(store, service="other") == []
    found = get_alert(store, "al-1")
    assert found is not None and found.record()["state"] == "resolved"
    assert get_alert(store, "al-9") is None


def test_no_rule_has_two_unresolved_alerts_on_a_service(store: Store) -> None:
    put(store, "al-1", rule="r")
    with pytest.raises((RaySafeError, IntegrityError)):
        put(store, "al-2", rule="r")
    resolve(store, "al-1", by="ada", note="n")
    put(store, "al-2", rule="r")


def test_a_silence_matches_until_it_ends(store: Store) -> None:
    made = silence(store, rule="r", duration_s=600, by="ada", reason="a trial")
    assert list_silences(store) == [made]
    assert made.matches("r", "any") and not made.matches("s", "any")
    end_silence(store, made.id, by="bo")
    assert list_silences(store) == []
    with pytest.raises(ConfigError, match="no silence"):
        end_silence(store, made.id, by="bo")
    assert [kind for kind, _, _ in rows(store)] == ["silenced", "silence ended"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"duration_s": 60, "by": "a", "reason": "r"}, "what is to be silent"),
        ({"rule": "r", "duration_s": 60, "by": "", "reason": "r"}, "name and a reason"),
        ({"rule": "r", "duration_s": 1e9, "by": "a", "reason": "r"}, "30 days"),
    ],
)
def test_an_impossible_silence_is_refused(store: Store, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        silence(store, **fields)
    assert rows(store) == []
