"""The recorder: what it makes of exchanges, what it keeps of their text (nothing), and that its bounds hold."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from raysafe.guards.guard import Exchange, Message, ToolCall, Verdict
from raysafe.monitoring.observation import Ended, observe
from raysafe.monitoring.recorder import WAITING, WAITING_CHARACTERS, Recorder
from raysafe.monitoring.windows import WindowBuilder
from raysafe.records.monitor_tables import WindowRow
from raysafe.records.store import open_store

SECRET = "SECRET-1234"


def ended(output: str = "one two three four", verdicts: list[Verdict] | None = None, **fields: Any) -> Ended:
    exchange = Exchange("r", "k", "m", (Message("user", f"hi {SECRET}"),), output=output, verdicts=verdicts or [])
    exchange.tool_calls = fields.pop("calls", ())
    return Ended(exchange, **{"outcome": "allowed", "seconds": 0.5, "model_seconds": 0.4, "tokens": 40, **fields})


def means(*all_ended: Ended) -> dict[str, float]:
    builder = WindowBuilder()
    for each in all_ended:
        observe(each, builder)
    return {name: summary.total / summary.count for name, summary in builder.close(1.0).numbers.items()}


def test_verdicts_count_as_shares_and_scores_by_guard() -> None:
    blocked = Verdict("judge", "output", "block", "bad", 0.9)
    would = Verdict("slow", "output", "allow", score=0.4, shadow="hold")
    failed = Verdict("judge", "output", "block", "x", 1.0, "error", error="RuntimeError")
    found = means(ended(verdicts=[blocked, would]), ended(verdicts=[failed]), ended(), ended())
    assert {name: found[name] for name in found if name.startswith("safety.")} == {
        "safety.blocked": 0.5,
        "safety.held": 0.0,
        "safety.modified": 0.0,
        "safety.would_stop": 0.25,
        "safety.guard_errors": 0.25,
        "safety.suspicion": pytest.approx(1.9 / 4),
        "safety.tool_calls": 0.0,
        "safety.score.judge": pytest.approx(0.95),
        "safety.score.slow": 0.4,
    }
    assert (found["behaviour.guard.judge"], found["behaviour.guard.slow"]) == (1.0, 1.0)


def test_a_policys_moves_are_counted_as_it_chose_them_and_how_sure_it_was() -> None:
    calls = tuple(ToolCall(str(n), "act", f'{{"action": {n}}}') for n in (0, 2, 2))
    moved, builder = ended("", calls=calls), WindowBuilder()
    moved.exchange.endpoint, moved.exchange.scores = "act", ((0.9, 0.0, 0.1), (0.2, 0.2, 0.6), (0.0, 0.0, 1.0))
    replaced = tuple('{"action": 1}' for _ in calls)
    moved.exchange.verdicts.append(Verdict("shield", "tool_call", "modify", "x", replacement=replaced))
    observe(moved, builder)
    window = builder.close(1.0)
    assert window.categories["behaviour.actions"] == {"0": 1, "2": 2}
    confidence = window.numbers["behaviour.confidence"]
    assert (confidence.count, confidence.low, confidence.high) == (3, 0.6, 1.0)


def test_a_classifiers_labels_are_counted_and_how_sure_it_was() -> None:
    said = [
        {"label": "cat", "scores": {"cat": 0.75, "dog": 0.25}},
        {"label": "dog", "scores": {"cat": 0.9, "dog": 0.95}},
        {"label": None, "scores": {}},
    ]
    predicted, builder = ended(json.dumps(said)), WindowBuilder()
    predicted.exchange.endpoint = "predict"
    observe(predicted, builder)
    window = builder.close(1.0)
    assert window.categories["behaviour.labels"] == {"cat": 1, "dog": 1, "abstained": 1}
    # scores of several labels at once are no distribution
    assert window.numbers["behaviour.confidence"].sample == [0.75]


def test_time_errors_and_speed() -> None:
    found = means(ended(), ended(outcome="failed", seconds=1.5, tokens=None), ended(outcome="cancelled"))
    assert found["performance.seconds"] == pytest.approx(2.5 / 3)
    assert found["performance.errors"] == pytest.approx(1 / 3)
    assert found["performance.cancelled"] == pytest.approx(1 / 3)
    assert found["performance.tokens_per_s"] == pytest.approx(100)


def test_an_answer_that_repeats_itself_shows() -> None:
    assert means(ended("one two three four five six"))["behaviour.repetition"] == 0
    assert means(ended("word " * 100))["behaviour.repetition"] == pytest.approx(1 - 1 / 98)


def test_tools_are_counted_by_name() -> None:
    builder = WindowBuilder()
    observe(ended(calls=(ToolCall("1", "search", "{}"), ToolCall("2", "search", "{}"))), builder)
    window = builder.close(1.0)
    assert window.categories["safety.tools"] == {"search": 2}
    assert window.numbers["safety.tool_calls"].total == 2


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def bodies(url: str) -> list[dict[str, Any]]:
    with open_store(url) as store, store.reading() as session:
        return [row.body for row in session.scalars(select(WindowRow).order_by(WindowRow.id))]


def test_what_it_writes_holds_no_text_and_what_it_kept_is_let_go(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    open_store(url).close()
    recorder = Recorder(url, "m", window_s=0.1)
    recorder.start()
    given = ended(f"the answer is {SECRET} and more")
    recorder.ended(given)
    recorder.note("safety.sandbox_breaches", 1.0)
    until(lambda: any("performance.seconds" in body["numbers"] for body in bodies(url)))
    recorder.stop()
    del given
    found = bodies(url)
    assert SECRET not in json.dumps(found)
    numbers = {name for body in found for name in body["numbers"]}
    assert {"safety.sandbox_breaches", "resources.cpu", "performance.requests_per_s"} <= numbers
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Ended)]


def test_what_finds_no_room_is_left_out_and_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    open_store(url).close()
    recorder = Recorder(url, "m", window_s=60)
    for _ in range(WAITING + 3):
        recorder.ended(ended())
    recorder.ended(ended("x" * (WAITING_CHARACTERS + 1)))
    recorder.start()
    recorder.stop()
    [body] = bodies(url)
    assert body["numbers"]["monitor.unobserved"][1] == 4
    assert body["numbers"]["performance.seconds"][0] == WAITING


def test_windows_wait_for_a_store_that_is_away(tmp_path: Path) -> None:
    url, away = f"sqlite:///{tmp_path}/store.db", tmp_path / "away.db"
    open_store(url).close()
    (tmp_path / "store.db").rename(away)
    recorder = Recorder(url, "m", window_s=0.1)
    recorder.start()
    recorder.ended(ended())
    until(lambda: len(recorder._unwritten) >= 2)
    away.rename(tmp_path / "store.db")
    until(lambda: not recorder._unwritten)
    recorder.stop()
    assert sum(body["numbers"].get("performance.seconds", [0])[0] for body in bodies(url)) == 1
