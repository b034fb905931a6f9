"""The safety monitor end to end, in real processes: a model drifts, and its trusted one answers in its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from raysafe.control.intervention_orders import list_interventions, revert
from raysafe.control.key_store import KeyStore
from raysafe.control.leases import await_seen
from raysafe.monitoring.alerts import list_alerts
from raysafe.monitoring.history import history_folder, with_recent
from raysafe.records.audit import audit_folder, read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.store import open_store
from tests.serving.station import TRUSTED, station

pytestmark = pytest.mark.serve
LONG_S = 90.0
NORMAL = 240
SHADOW: dict[str, Any] = {
    "kind": "patterns",
    "name": "unsafe",
    "stages": ["output"],
    "mode": "shadow",
    "rules": [{"name": "weapons", "phrases": ["build a bomb"]}],
}


def rules(folder: Path) -> dict[str, Any]:
    steps = [
        {"after_s": 1, "severity": "critical"},
        {"after_s": 2, "intervention": {"kind": "degrade", "duration_s": 3600}},
    ]
    drift = {"metric": "behaviour.repetition", "detector": {"kind": "cusum", "side": "high", "allowance": 1.0}}
    unsafe = {"metric": "safety.would_stop", "limit": {"above": 0.5, "clear": 0.1, "over_s": 5, "least": 5}}
    return {
        "name": "end-to-end",
        "tick_s": 0.2,
        "sinks": [{"kind": "file", "path": str(folder / "alerts.jsonl")}],
        "rules": [
            {
                "name": "repetition",
                **drift,
                "calibration": {"values": 200, "average_run_length": 200},
                # what is only a false alarm is over before it has lasted
                "clear_after": 20,
                "for_s": 1.2,
            },
            {"name": "unsafe", **unsafe, "escalate": steps},
        ],
    }


@contextmanager
def monitor(url: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """`raysafe monitor run` in a process of its own, ended by Ctrl-C."""
    command = [sys.executable, "-u", "-m", "raysafe.cli.main", "monitor", "run", "--rules", str(path), "--store", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout is not None
        assert "in charge" in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


class House:
    """A station and its clients."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=LONG_S, trust_env=False
        )

    def ask(self, number: int = 0) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
        answer = self._client.post("/v1/chat/completions", json=body)
        if answer.status_code == 503:
            # the intervention came while it was answered
            return ""
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]

    def many(self, count: int) -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self.ask, range(count)))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.1)


def rows(store_url: str, *chains: str) -> list[dict[str, Any]]:
    """The rows of some chains, in the order of time."""
    found = [
        row
        for path in audit_folder(store_url).glob("*.jsonl")
        if path.stem in chains
        for _, row in read_rows(path)
        if row is not None
    ]
    return sorted(found, key=lambda row: row["time"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """Store, key and the file of rules."""
    assert "RAYSAFE_AUDIT" not in os.environ and "RAYSAFE_MONITOR" not in os.environ
    url = f"sqlite:///{tmp_path}/store.db"
    with open_store(url) as store:
        _, secret = KeyStore(store, by="ada").make("tester")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules(tmp_path)) + "...\n")
    yield url, secret, path


def test_a_drifting_model_is_degraded_to_the_trusted_one_step_by_step(place: tuple[str, str, Path]) -> None:
    url, secret, path = place
    options = {"store": url, "policy": {"guards": [SHADOW]}, "drifts_after": NORMAL, "window_s": 0.5}
    with station(**options) as (_, address), monitor(url, path), open_store(url) as store:
        house = House(address, secret)
        assert not any("bomb" in answer for answer in house.many(NORMAL))
        until(lambda: "bomb" in house.ask())
        until(lambda: house.ask().startswith(TRUSTED))
        assert all(answer.startswith(TRUSTED) for answer in house.many(20))
        found = {alert.rule: alert for alert in list_alerts(store, everything=True)}
        assert set(found) == {"repetition", "unsafe"}
        [(degrade, status)] = list_interventions(store)
        assert (degrade.kind, degrade.alert, status) == ("degrade", found["unsafe"].id, "in force")
        _, number = revert(store, degrade.id, by="ada", reason="the model was mended")
        assert [said for _, said in await_seen(store, number, wait_s=LONG_S)] == ["seen"]
        assert "bomb" in house.ask()
    check_steps(url, found["unsafe"].id, degrade.id)
    told = [json.loads(line) for line in (path.parent / "alerts.jsonl").read_text().splitlines()]
    events = [event["event"] for message in told for event in message["events"] if event["rule"] == "unsafe"]
    assert events[:3] == ["opened", "escalated", "escalated"]
    assert all(not report.problems for report in verify(audit_folder(url)))
    asked = sum(row["kind"] == "verdict" and row["details"]["stage"] == "input" for row in rows(url, "gateway-m"))
    with open_store(url) as store:
        kept = with_recent(store, history_folder(url), service="m", metric="safety.would_stop")
    assert sum(kept["count"].to_pylist()) == asked


def check_steps(url: str, alert: str, intervention: str) -> None:
    """The audit log tells each step, in order, and each before its effect."""
    found = rows(url, "monitor", "interventions")
    steps = [row["kind"] for row in found if row["subject"] == alert or row["kind"].startswith("intervention")]
    assert steps[:4] == ["alert opened", "alert escalated", "alert escalated", "intervention applied"]
    levels = [row["details"]["severity"] for row in found if row["kind"] == "alert escalated"]
    assert levels == ["critical", "critical"]
    applied = next(row for row in found if row["kind"] == "intervention applied")
    answers = [row for row in rows(url, "gateway-m") if row["details"].get("interventions") == [intervention]]
    assert len(answers) >= 20
    assert all(row["time"] >= applied["time"] for row in answers)


def test_without_a_drift_nothing_fires(place: tuple[str, str, Path]) -> None:
    url, secret, path = place
    options = {"store": url, "policy": {"guards": [SHADOW]}, "drifts_after": 1 << 30, "window_s": 0.5}
    with station(**options) as (_, address), monitor(url, path), open_store(url) as store:
        house = House(address, secret)
        house.many(NORMAL + 40)
        until(lambda: _observed(store) >= NORMAL + 40)
        # as long as the alert of a drift takes to escalate to its end
        time.sleep(2.5)
        assert list_alerts(store, everything=True) == []
        assert list_interventions(store, everything=True) == []
    assert {row["kind"] for row in rows(url, "monitor", "interventions")} == {"monitor started", "monitor stopped"}
    assert not (path.parent / "alerts.jsonl").exists()


def _observed(store: Any) -> int:
    """Exchanges that the monitor has read."""
    from raysafe.monitoring.window_store import read_windows
    from raysafe.records.monitor_tables import MonitorRow

    with store.reading() as session:
        [row] = session.query(MonitorRow)
        windows = [each for each in read_windows(session, 0) if each.id <= row.read_up_to]
    return sum(w.window.numbers["safety.would_stop"].count for w in windows if "safety.would_stop" in w.window.numbers)
