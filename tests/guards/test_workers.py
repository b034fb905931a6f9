"""Checks that wait run in threads that are used again, and those that run too long are bounded in number."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from raysafe.guards import entry
from raysafe.guards.entry import Entry
from raysafe.guards.workers import Crowded, Late, Workers
from tests.guards.planted import Gate, Telling, asking


def run(workers: Workers, work: Callable[[], Any], owner: object = "guard", timeout_s: float = 20.0) -> Any:
    return workers.begin(work, owner).result(time.perf_counter() + timeout_s)


def hang(workers: Workers, gate: Gate, owner: object) -> None:
    with pytest.raises(Late):
        run(workers, gate, owner, 0.0)


def test_the_result_is_the_works() -> None:
    assert run(Workers(), lambda: 7) == 7


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="x"):
        run(Workers(), lambda: {}["x"])


def test_work_that_returns_none_has_ended() -> None:
    assert run(Workers(), lambda: None) is None


def test_work_that_would_end_its_thread_has_failed() -> None:
    with pytest.raises(RuntimeError, match="SystemExit"):
        run(Workers(), sys.exit)


def test_one_check_after_another_uses_one_thread() -> None:
    workers = Workers()
    assert len({run(workers, threading.get_ident) for _ in range(20)}) == 1


def test_a_late_check_is_counted_until_it_ends() -> None:
    workers, gate = Workers(), Gate()
    hang(workers, gate, "guard")
    assert workers.left_behind == 1
    gate.open()
    while workers.left_behind:
        time.sleep(0.001)


def test_beyond_the_bound_of_one_guard_only_that_guard_is_refused() -> None:
    workers, gate = Workers(left_behind=10, of_one=2), Gate()
    for _ in range(2):
        hang(workers, gate, "hung")
    with pytest.raises(Crowded, match="2 of its checks"):
        workers.begin(gate, "hung")
    assert run(workers, lambda: 1, "other") == 1
    gate.open()


def test_beyond_the_bound_of_all_every_guard_is_refused() -> None:
    workers, gate = Workers(left_behind=3, of_one=2), Gate()
    for owner in ("a", "b", "c"):
        hang(workers, gate, owner)
    with pytest.raises(Crowded, match="3 checks of guards"):
        workers.begin(gate, "d")
    gate.open()


def test_a_guard_works_again_once_its_late_checks_have_ended() -> None:
    workers, gate = Workers(of_one=1), Gate()
    hang(workers, gate, "guard")
    gate.open()
    while workers.left_behind:
        time.sleep(0.001)
    assert run(workers, lambda: 1, "guard") == 1


def test_a_guard_that_hangs_fails_closed_at_once_beyond_the_bound_and_starts_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers, gate = Workers(of_one=2), Gate()
    monkeypatch.setattr(entry, "WORKERS", workers)
    hung = Entry(Telling("hung", inline=False, before=gate), timeout_s=0.01)
    errors = [hung.check(asking(), "input").error for _ in range(2)]
    assert errors == ["ran past its timeout of 0.01 s"] * 2
    threads = threading.active_count()
    verdict = hung.check(asking(), "input")
    assert (verdict.action, verdict.category) == ("block", "error")
    assert verdict.error == "couldn't be started: 2 of its checks are still running past their timeouts"
    assert threading.active_count() == threads
    gate.open()
