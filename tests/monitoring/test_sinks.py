"""Sinks and the queue of what they are owed: signatures as the standard has them, and nothing lost or sent anew."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from raysafe.monitoring.alert import Alert
from raysafe.monitoring.deliveries import FIRST_S, KEPT_S, LONGEST_S, deliver, enqueue, owed, sweep
from raysafe.monitoring.lifecycle import Told
from raysafe.monitoring.sinks import FileSink, LogSink, NotTaken, WebhookSink, signature
from raysafe.records.monitor_tables import DeliveryRow
from raysafe.records.store import Store

START = datetime(2026, 11, 26, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def alert(alert_id: str = "al-1", group: str = "g", service: str = "m") -> Alert:
    return Alert(alert_id, "drift", service, group, "warning", "behaviour.x", "it repeats", 1.0, 1, 0, START, START)


def told(sink: str, *alerts: Alert) -> list[Told]:
    return [Told("opened", each, (sink,)) for each in alerts]


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    """From the test vectors of the Standard Webhooks libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers as it is told."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((dict(self.headers), content))  # type: ignore[attr-defined]
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)  # type: ignore[attr-defined]
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, *given: Any) -> None:
        return None


@pytest.fixture
def receiver() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Receiver)
    server.taken, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hook(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> WebhookSink:
    monkeypatch.setenv("HOOK", SECRET)
    return WebhookSink(name="hook", url=f"http://127.0.0.1:{receiver.server_port}/hook", secret_env="HOOK")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        monkeypatch.setattr("raysafe.monitoring.deliveries.store_now", lambda session: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def put(store: Store, clock: Clock, events: list[Told], wait_s: float = 0.0) -> None:
    with store.session() as session:
        enqueue(session, events, clock.now, wait_s)


def left(store: Store) -> int:
    with store.reading() as session:
        return owed(session)


@pytest.mark.serve
def test_a_webhook_is_signed_and_sent_again_with_the_same_id_until_it_is_taken(
    store: Store, clock: Clock, receiver: Any, hook: WebhookSink
) -> None:
    receiver.answers = [500, 302]
    put(store, clock, told("hook", alert()))
    waits = []
    while left(store):
        before = len(receiver.taken)
        deliver(store, {"hook": hook})
        if len(receiver.taken) > before:
            waits.append((clock.now - START).total_seconds())
        clock.now += timedelta(seconds=0.25)
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1
    assert len(receiver.taken) == 3
    assert waits[0] == 0 and FIRST_S <= waits[1] <= 2.25 and 2 <= waits[2] - waits[1] <= 4.25
    for headers, content in receiver.taken:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
        expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert json.loads(content)["events"][0]["rule"] == "drift"


@pytest.mark.serve
def test_a_webhook_that_is_away_is_no_error(hook: WebhookSink, receiver: Any) -> None:
    away = hook.model_copy(update={"url": "http://127.0.0.1:9/"})
    with pytest.raises(NotTaken, match="ConnectError"):
        away.send("de-1", {"events": []})


def test_what_was_sent_and_not_marked_is_sent_again(store: Store, clock: Clock, tmp_path: Path) -> None:
    """A crash between the two: at least once."""
    sink = FileSink(name="f", path=tmp_path / "folder" / "alerts.jsonl")
    put(store, clock, told("f", alert()))

    class Crash(Exception):
        pass

    class Crashing:
        def send(self, delivery_id: str, body: dict[str, Any]) -> None:
            sink.send(delivery_id, body)
            raise Crash

    with pytest.raises(Crash):
        deliver(store, {"f": Crashing()})  # type: ignore[dict-item]
    assert deliver(store, {"f": sink}) == 0, "it is due again later only"
    clock.now += timedelta(seconds=5)
    assert deliver(store, {"f": sink}) == 1
    assert left(store) == 0
    lines = [json.loads(line) for line in sink.path.read_text().splitlines()]
    assert len(lines) == 2 and lines[0] == lines[1]


def test_waits_grow_to_their_longest(store: Store, clock: Clock) -> None:
    put(store, clock, told("gone", alert()))
    for _ in range(20):
        deliver(store, {})
        with store.reading() as session:
            row = session.scalars(select(DeliveryRow)).one()
        assert row.error is not None and "no sink is called 'gone'" in row.error
        wait = (row.next_try - clock.now).total_seconds()
        clock.now = row.next_try
    assert LONGEST_S / 2 <= wait <= LONGEST_S


def test_events_of_one_group_wait_for_company(store: Store, clock: Clock) -> None:
    put(store, clock, told("f", alert("al-1"), alert("al-2", "other"), alert("al-3", service="n")), wait_s=30)
    clock.now += timedelta(seconds=20)
    put(store, clock, told("f", alert("al-4")), wait_s=30)
    assert left(store) == 3
    clock.now += timedelta(seconds=11)
    put(store, clock, told("f", alert("al-5")), wait_s=30)
    assert left(store) == 4, "the first message is due, and waits no more"


def test_what_no_sink_ever_took_is_given_up_and_logged(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, clock, told("gone", alert()))
    with store.session() as session:
        sweep(session, clock.now + timedelta(seconds=KEPT_S - 1))
    assert left(store) == 1
    with store.session() as session:
        sweep(session, clock.now + timedelta(seconds=KEPT_S + 1))
    assert left(store) == 0 and "never took" in caplog.text


def test_the_log_names_severity_rule_and_service(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        LogSink().send("de-1", {"events": [{**alert().record(), "event": "opened"}]})
    assert "warning alert al-1 opened: drift of m: it repeats" in caplog.text


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotTaken, match="can't write"):
        FileSink(path=tmp_path / "file" / "alerts.jsonl").send("de-1", {"events": []})
