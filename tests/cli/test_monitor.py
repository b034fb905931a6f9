"""`raysafe monitor` and `raysafe interventions`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raysafe.cli.main import main
from raysafe.monitoring.window_store import write_windows
from raysafe.monitoring.windows import WindowBuilder
from raysafe.records.control_tables import LeaseRow
from raysafe.records.monitor_tables import AlertRow
from raysafe.records.store import open_store, store_now

RULES = """
name: shop
version: 2
sinks: [{kind: file, path: alerts.jsonl}]
rules:
  - name: errors
    metric: performance.errors
    limit: {above: 0.1, over_s: 120}
    escalate: [{after_s: 60, severity: critical, intervention: {kind: degrade, confirm: true}}]
  - {name: drift, metric: behaviour.repetition, detector: {kind: cusum}}
"""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with a gateway of m, an alert and some figures."""
    address = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.setenv("RAYSAFE_STORE", address)
    builder = WindowBuilder()
    builder.add([("performance.errors", 0.0), ("performance.errors", 1.0)])
    with open_store(address) as store:
        with store.session() as session:
            now = store_now(session)
            times = {"renewed": now - timedelta(hours=1), "expires": now - timedelta(hours=1)}
            session.add(LeaseRow(holder="h", service="m", names=["m"], place="p", seen=0, renewals=1, **times))
            values: dict[str, Any] = {"metric": "performance.errors", "summary": "too many", "value": 0.5}
            values |= {"alert_group": "g", "severity": "warning", "detections": 1, "level": 0}
            session.add(AlertRow(id="al-1", rule="errors", service="m", opened=now, updated=now, **values))
        write_windows(store, "m", "g", [(datetime.now(UTC), builder.close(5.0))])
    return address


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command that succeeds; what it printed, read where it is JSON."""

    def run(*arguments: str, code: int = 0) -> Any:
        assert main([*arguments]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return json.loads(out) if "--json" in arguments else out + err

    return run


def test_rules_are_checked_and_shown(url: str, told: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    shown = told("monitor", "check", str(path))
    assert "shop@2" in shown and "mean above 0.1 over 120 s" in shown and "60 s: critical proposes degrade" in shown
    path.write_text(RULES.replace("above", "abov"))
    assert "did you mean 'above'" in told("monitor", "check", str(path), code=2)


def test_an_alert_is_seen_acknowledged_and_resolved(url: str, told: Callable[..., Any]) -> None:
    [alert] = told("monitor", "alerts", "--json")
    assert (alert["id"], alert["state"]) == ("al-1", "open")
    told("monitor", "ack", "al-1", "--note", "I look", "--by", "ada")
    assert "acknowledged" in told("monitor", "alerts")
    told("monitor", "resolve", "al-1", "--note", "over", "--by", "bo")
    assert told("monitor", "alerts", "--json") == []
    assert "no alert is called" in told("monitor", "ack", "al-2", "--note", "n", "--by", "ada", code=2)


def test_status_and_history_show_what_gateways_observed(url: str, told: Callable[..., Any]) -> None:
    shown = told("monitor", "status")
    assert "no monitor has ever run" in shown and "1 alert(s) not resolved" in shown and "performance.errors" in shown
    [row] = told("monitor", "history", "performance.errors", "--json")
    assert (row["count"], row["total"], row["service"]) == (2, 1.0, "m")
    assert told("monitor", "history", "performance.errors", "--until", "2001-01-01", "--json") == []


def test_a_silence_is_made_shown_and_ended(url: str, told: Callable[..., Any]) -> None:
    made = told("monitor", "silence", "--rule", "errors", "--for", "2h", "--reason", "a trial", "--by", "ada")
    silence_id = made.partition(":")[0]
    assert silence_id in told("monitor", "silence", "--list")
    told("monitor", "silence", "--end", silence_id, "--by", "ada")
    assert silence_id not in told("monitor", "silence", "--list")
    assert "what is to be silent" in told("monitor", "silence", "--reason", "r", "--by", "ada", code=2)


def test_an_intervention_is_applied_and_lifted_by_two_people(url: str, told: Callable[..., Any]) -> None:
    why = ("--reason", "strange answers")
    told("interventions", "apply", "throttle", "m", "--requests-per-minute", "60", "--for", "2h", *why, "--by", "ada")
    [found] = told("interventions", "list", "--json")
    assert (found["kind"], found["status"], found["options"]) == ("throttle", "in force", {"requests_per_minute": 60.0})
    assert "second person" in told("interventions", "revert", found["id"], *why, "--by", "ada", code=2)
    told("interventions", "revert", found["id"], *why, "--by", "bo")
    assert told("interventions", "list", "--json") == []


def test_a_proposal_is_confirmed_or_declined(url: str, told: Callable[..., Any]) -> None:
    for _ in range(2):
        told("interventions", "propose", "quarantine", "--all", "--reason", "r", "--by", "ada")
    first, second = (each["id"] for each in told("interventions", "list", "--json"))
    assert "can't confirm" in told("interventions", "confirm", first, "--by", "ada", code=2)
    told("interventions", "confirm", first, "--by", "bo")
    told("interventions", "decline", second, "--reason", "once is enough", "--by", "bo")
    states = {each["id"]: each["status"] for each in told("interventions", "list", "--all", "--json")}
    assert states == {first: "in force", second: "declined"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("apply", "degrade", "n", "--reason", "r"), "no gateway and no registered model is called 'n'"),
        (("apply", "degrade", "--reason", "r"), "what is meant"),
        (("apply", "throttle", "m", "--reason", "r"), "requests_per_minute"),
        (("apply", "roll_back", "m", "--reason", "r"), "can't be rolled back"),
        (("apply", "degrade", "m", "--reason", "r", "--for", "soon"), "no length of time"),
        (("revert", "iv-1", "--reason", "r"), "nothing to revert"),
        (("confirm", "iv-1"), "no intervention is called"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    url: str, told: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    assert message in told("interventions", *arguments, "--by", "ada", code=2)
