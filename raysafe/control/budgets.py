"""Budgets over fixed windows, counted in the store: exact whatever number of processes draw on them.

What is reserved is charged from the moment it is granted, and only `settle` gives some of it back. So a process that
dies leaves its reservations charged in full, and reservations never overdraw a budget. A window's counter stays after
the window's end: a clock that is set back finds a spent window spent.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self

from sqlalchemy.orm import Session

from raysafe.control.budget_counters import add_missing, charge, read_locked
from raysafe.control.budget_sums import (
    Budget,
    Charge,
    Granted,
    Refused,
    Resource,
    Spot,
    charges_of,
    corrections,
    decide,
)
from raysafe.errors import StorageError
from raysafe.records.store import Store, store_now

__all__ = ["Budget", "Budgets", "Granted", "Refused", "Resource"]

WAIT_S = 5.0
"""Longest wait for the store: what waited fails then, and nothing passes."""
GROUP = 1000
KNOWN = 100_000


class _Ask(NamedTuple):
    charges: tuple[Charge, ...]
    future: Future[Granted | Refused]


class _Settlement(NamedTuple):
    changes: dict[Spot, int]
    future: Future[None]


class Budgets:
    """One thread draws on the counters: all callers that wait meanwhile share one transaction."""

    def __init__(self, store_url: str) -> None:
        """The store is opened at the first call, and anew after a failure."""
        self._url = store_url
        self._store: Store | None = None
        self._known: set[Spot] = set()
        self._queue: SimpleQueue[_Ask | _Settlement | None] = SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._serve_groups, name="budgets", daemon=True)
        self._thread.start()

    def reserve(self, limits: Sequence[Budget], amounts: Mapping[Resource, float]) -> Future[Granted | Refused]:
        """Charge all limits with a request's amounts, or none; the future is done when that is durable.

        It fails with StorageError where the store can't be written: then nothing may pass. Raises ConfigError for two
        limits on one counter, or an amount that is none. A caller that gives up afterwards must still settle.
        """
        return self._submit(_Ask(charges_of(limits, amounts), _running()))

    def settle(self, granted: Granted, actual: Mapping[Resource, float]) -> Future[None]:
        """Charge what was really used instead of what was reserved, in the window of the reservation. Once.

        Where that fails, the reservation stays charged in full: a settlement is never tried again, for the store may
        have taken it.
        """
        return self._submit(_Settlement(corrections(granted, actual), _running()))

    def close(self) -> None:
        """Finish what waits."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, call: Any) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise StorageError("the budgets are closed")
            self._queue.put(call)
        return call.future

    def _serve_groups(self) -> None:
        open_end = True
        while open_end:
            group = [self._queue.get()]
            while len(group) < GROUP and not self._queue.empty():
                group.append(self._queue.get())
            open_end = None not in group
            self._serve([call for call in group if call is not None])
        self._let_go()

    def _serve(self, group: Sequence[_Ask | _Settlement]) -> None:
        asks = [call for call in group if isinstance(call, _Ask)]
        settlements = [call for call in group if isinstance(call, _Settlement)]
        try:
            if self._store is None:
                self._store = Store(self._url, wait_s=WAIT_S, make=False)
            with self._store.session() as session:
                answers = self._draw(session, asks, settlements)
                self._store.check_place()
        except Exception as error:
            self._let_go()
            for call in group:
                call.future.set_exception(error)
            return
        for ask, answer in zip(asks, answers, strict=True):
            ask.future.set_result(answer)
        for settlement in settlements:
            settlement.future.set_result(None)

    def _draw(
        self, session: Session, asks: Sequence[_Ask], settlements: Sequence[_Settlement]
    ) -> list[Granted | Refused]:
        """Settlements first: what they give back may be what an asker lacks."""
        now_s = store_now(session).timestamp()
        asked = {budget.spot(now_s) for ask in asks for budget, _ in ask.charges}
        used = self._read(session, asked, {spot for settlement in settlements for spot in settlement.changes})
        total: dict[Spot, int] = {}
        for settlement in settlements:
            _add(total, settlement.changes)
        after = {spot: units + total.get(spot, 0) for spot, units in used.items()}
        answers, drawn = decide(after, [ask.charges for ask in asks], now_s)
        _add(total, drawn)
        charge(session, total)
        return answers

    def _read(self, session: Session, asked: set[Spot], settled: set[Spot]) -> dict[Spot, int]:
        """The counters, locked; those that are asked for the first time are made before any lock is taken."""
        if len(self._known) > KNOWN:
            self._known.clear()
        add_missing(session, asked - self._known)
        used = read_locked(session, asked | settled)
        swept = asked - used.keys()
        if swept:
            # a clock went far back, to a window that was here once
            add_missing(session, swept)
            used |= read_locked(session, swept)
        self._known |= asked
        return used

    def _let_go(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None
        self._known.clear()


def _running() -> Future[Any]:
    """A future that can't be cancelled: what was handed over is charged."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _add(total: dict[Spot, int], more: Mapping[Spot, int]) -> None:
    for spot, units in more.items():
        total[spot] = total.get(spot, 0) + units
