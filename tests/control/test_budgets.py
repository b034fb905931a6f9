"""Budgets in the store: exact over processes, durable when granted, and never reopened by a clock."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from raysafe.control.budget_counters import KEPT
from raysafe.control.budgets import Budget, Budgets, Granted, Refused, Resource
from raysafe.errors import ConfigError, StorageError
from raysafe.records.control_tables import CounterRow
from raysafe.records.store import open_store

LONG_S = 60.0

ASKER = """
import collections, sys
from raysafe.control.budgets import Budget, Budgets, Granted
url, limit, asks = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
limits = [
    Budget(subject="model", name="m", resource="requests", window="day", limit=limit),
    Budget(subject="key", name="k", resource="tokens", window="total", limit=1e9),
]
with Budgets(url) as budgets:
    sys.stdin.readline()
    waiting = collections.deque()
    for _ in range(asks):
        waiting.append(budgets.reserve(limits, {"requests": 1, "tokens": 10}))
        while len(waiting) > 200:
            print(int(isinstance(waiting.popleft().result(), Granted)), flush=True)
    for future in waiting:
        print(int(isinstance(future.result(), Granted)), flush=True)
"""


@pytest.fixture
def budgets(url: str) -> Iterator[Budgets]:
    with Budgets(url) as opened:
        yield opened


def limit(most: float, resource: str = "requests", window: str = "total", name: str = "k") -> Budget:
    return Budget.parse({"subject": "key", "name": name, "resource": resource, "window": window, "limit": most})


def ask(budgets: Budgets, *limits: Budget, **amounts: float) -> Granted | Refused:
    wanted: dict[Resource, float] = amounts or {"requests": 1}  # type: ignore[assignment]
    return budgets.reserve(limits, wanted).result(LONG_S)


def used(url: str) -> dict[str, int]:
    with open_store(url) as store, store.reading() as session:
        return dict(iter(session.execute(select(CounterRow.counter, CounterRow.used))))


def askers(url: str, most: float, asks: int, count: int = 3) -> list[subprocess.Popen[str]]:
    """Processes that have asked nothing yet; a line on their standard input lets them begin."""
    command = [sys.executable, "-c", ASKER, url, str(most), str(asks)]
    pipe = subprocess.PIPE
    return [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]


@pytest.mark.serve
def test_of_a_thousand_requests_at_three_processes_exactly_the_budget_passes(url: str) -> None:
    processes = askers(url, 500, 334)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [line for process in processes for line in process.communicate(timeout=LONG_S)[0].split()]
    assert (len(answers), answers.count("1")) == (1002, 500)
    assert used(url) == {"model/m/requests/day": 500, "key/k/tokens/total": 5000}


@pytest.mark.serve
def test_a_process_killed_in_the_middle_leaves_what_it_was_granted_charged(url: str) -> None:
    (process,) = askers(url, 1e9, 10**9, count=1)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    granted = sum(int(process.stdout.readline()) for _ in range(500))
    process.send_signal(signal.SIGKILL)
    granted += sum(int(line) for line in process.stdout.read().split("\n") if line)
    process.wait(LONG_S)
    counters = used(url)
    # each group is whole: what was charged and not yet answered is charged on both counters
    assert counters["model/m/requests/day"] >= granted
    assert counters["key/k/tokens/total"] == 10 * counters["model/m/requests/day"]


def test_what_was_drawn_is_drawn_after_a_restart(url: str) -> None:
    with Budgets(url) as first:
        assert [type(ask(first, limit(3))) for _ in range(2)] == [Granted, Granted]
    with Budgets(url) as second:
        assert [type(ask(second, limit(3))) for _ in range(2)] == [Granted, Refused]


def test_a_budget_that_is_short_leaves_all_counters_as_they_were(budgets: Budgets, url: str) -> None:
    ask(budgets, limit(5), limit(10, "tokens"), requests=1, tokens=8)
    refused = ask(budgets, limit(5), limit(10, "tokens"), requests=1, tokens=8)
    assert refused == Refused(limit(10, "tokens"), None)
    assert used(url) == {"key/k/requests/total": 1, "key/k/tokens/total": 8}


def test_a_settlement_makes_room_for_others(budgets: Budgets) -> None:
    granted = ask(budgets, limit(10, "tokens"), tokens=10)
    assert isinstance(granted, Granted)
    assert isinstance(ask(budgets, limit(10, "tokens"), tokens=1), Refused)
    budgets.settle(granted, {"tokens": 4}).result(LONG_S)
    assert isinstance(ask(budgets, limit(10, "tokens"), tokens=6), Granted)
    assert isinstance(ask(budgets, limit(10, "tokens"), tokens=1), Refused)


def test_what_is_used_beyond_the_reservation_is_charged(budgets: Budgets, url: str) -> None:
    granted = ask(budgets, limit(10, "tokens"), tokens=5)
    assert isinstance(granted, Granted)
    budgets.settle(granted, {"tokens": 12}).result(LONG_S)
    assert used(url) == {"key/k/tokens/total": 12}


def test_a_raised_limit_meets_what_was_drawn_before(budgets: Budgets) -> None:
    ask(budgets, limit(1))
    assert isinstance(ask(budgets, limit(1)), Refused)
    assert isinstance(ask(budgets, limit(2)), Granted)


class StoreClock:
    """The store's clock, set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 12, 0, 30, tzinfo=UTC)

    def __call__(self, session: object) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    made = StoreClock()
    monkeypatch.setattr("raysafe.control.budgets.store_now", made)
    return made


def test_a_new_window_is_a_new_budget(budgets: Budgets, clock: StoreClock) -> None:
    minute = limit(1, window="minute")
    ask(budgets, minute)
    assert ask(budgets, minute) == Refused(minute, 30.0)
    clock.now += timedelta(seconds=30)
    assert isinstance(ask(budgets, minute), Granted)


@pytest.mark.parametrize("window", ["minute", "hour", "day"])
def test_a_clock_set_back_finds_a_spent_window_spent(budgets: Budgets, clock: StoreClock, window: str) -> None:
    spent = limit(1, window=window)
    ask(budgets, spent)
    clock.now += timedelta(days=400)
    ask(budgets, spent)
    clock.now -= timedelta(days=400)
    assert isinstance(ask(budgets, spent), Refused)


def test_a_clock_that_was_wrong_for_a_while_locks_nobody_out(budgets: Budgets, clock: StoreClock) -> None:
    minute = limit(1, window="minute")
    clock.now += timedelta(days=400)
    ask(budgets, minute)
    clock.now -= timedelta(days=400)
    assert isinstance(ask(budgets, minute), Granted)


def test_a_settlement_goes_to_the_window_of_its_reservation(budgets: Budgets, clock: StoreClock, url: str) -> None:
    minute = limit(10, "tokens", "minute")
    granted = ask(budgets, minute, tokens=10)
    assert isinstance(granted, Granted)
    clock.now += timedelta(minutes=1)
    ask(budgets, minute, tokens=7)
    budgets.settle(granted, {"tokens": 4}).result(LONG_S)
    with open_store(url) as store, store.reading() as session:
        assert list(session.scalars(select(CounterRow.used).order_by(CounterRow.start))) == [4, 7]


def test_the_oldest_windows_are_swept_away_and_a_late_settlement_harms_nobody(
    budgets: Budgets, clock: StoreClock, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KEPT, "minute", 2)
    first, *_ = [ask(budgets, limit(10, window="minute"), limit(10)) for _ in minutes(clock, 4)]
    assert isinstance(first, Granted)
    budgets.settle(first, {}).result(LONG_S)
    with open_store(url) as store, store.reading() as session:
        rows = session.execute(select(CounterRow.counter, CounterRow.used).order_by(CounterRow.counter)).all()
    assert rows == [("key/k/requests/minute", 1), ("key/k/requests/minute", 1), ("key/k/requests/total", 3)]


def test_a_swept_window_that_a_clock_goes_back_to_is_counted_anew(
    budgets: Budgets, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KEPT, "minute", 2)
    for _ in minutes(clock, 4):
        ask(budgets, limit(1, window="minute"))
    clock.now -= timedelta(minutes=4)
    assert [type(ask(budgets, limit(1, window="minute"))) for _ in range(2)] == [Granted, Refused]


def minutes(clock: StoreClock, count: int) -> Iterator[int]:
    """A minute goes by before each but the first."""
    for number in range(count):
        yield number
        clock.now += timedelta(minutes=1)


def test_who_waits_shares_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    open_store(url).close()
    holder = sqlite3.connect(tmp_path / "raysafe.db", isolation_level=None)
    groups: list[int] = []
    serve = Budgets._serve

    def counted(self: Budgets, group: list) -> None:
        groups.append(len(group))
        serve(self, group)

    monkeypatch.setattr(Budgets, "_serve", counted)
    with Budgets(url) as budgets:
        ask(budgets, limit(1000))
        holder.execute("BEGIN IMMEDIATE")
        futures: list[Future[Granted | Refused]] = [budgets.reserve([limit(500)], {"requests": 1}) for _ in range(600)]
        holder.execute("ROLLBACK")
        answers = [future.result(LONG_S) for future in futures]
    holder.close()
    assert sum(isinstance(answer, Granted) for answer in answers) == 499
    assert (sum(groups), len(groups) < 30) == (601, True)


@pytest.mark.parametrize(("actual", "passes"), [(4, True), (6, False), (12, False)])
def test_what_is_settled_counts_for_who_asks_in_the_same_transaction(tmp_path: Path, actual: int, passes: bool) -> None:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    open_store(url).close()
    holder = sqlite3.connect(tmp_path / "raysafe.db", isolation_level=None)
    with Budgets(url) as budgets:
        granted = ask(budgets, limit(10, "tokens"), tokens=5)
        assert isinstance(granted, Granted)
        holder.execute("BEGIN IMMEDIATE")
        # one that holds the thread up, then the two that share a transaction
        budgets.reserve([limit(1, name="other")], {"requests": 1})
        budgets.settle(granted, {"tokens": actual})
        asked = budgets.reserve([limit(10, "tokens")], {"tokens": 5})
        holder.execute("ROLLBACK")
        assert isinstance(asked.result(LONG_S), Granted) == passes
    holder.close()


def test_a_store_that_cannot_be_written_lets_nothing_pass_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysafe.control.budgets.WAIT_S", 0.1)
    url = f"sqlite:///{tmp_path}/raysafe.db"
    open_store(url).close()
    holder = sqlite3.connect(tmp_path / "raysafe.db", isolation_level=None)
    with Budgets(url) as budgets:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            ask(budgets, limit(1))
        holder.execute("ROLLBACK")
        assert [type(ask(budgets, limit(1))) for _ in range(2)] == [Granted, Refused]
    holder.close()


def test_a_store_that_is_gone_lets_nothing_pass_and_is_not_made_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    open_store(url).close()
    with Budgets(url) as budgets:
        ask(budgets, limit(1))
        away = (tmp_path / "raysafe.db").rename(tmp_path / "away.db")
        for _ in range(2):
            with pytest.raises(StorageError, match="is gone"):
                ask(budgets, limit(1))
        away.rename(tmp_path / "raysafe.db")
        assert isinstance(ask(budgets, limit(1)), Refused)


def test_a_strange_amount_fails_its_caller_alone(budgets: Budgets) -> None:
    with pytest.raises(ConfigError):
        budgets.reserve([limit(1)], {"requests": -1})
    assert isinstance(ask(budgets, limit(1)), Granted)


def test_closed_budgets_take_nothing_more(url: str) -> None:
    budgets = Budgets(url)
    last = budgets.reserve([limit(1)], {"requests": 1})
    budgets.close()
    assert isinstance(last.result(0), Granted)
    with pytest.raises(StorageError, match="closed"):
        budgets.reserve([limit(1)], {"requests": 1})
