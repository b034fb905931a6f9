"""Whether a gateway may answer now: a lease that runs out by itself, and the orders that close it while it lasts.

Time here is this process's own, by a clock that nobody sets and that goes on while the machine sleeps. The thread that
notices that the lease ran out waits on nothing but that clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from raysafe.control.kill_log import Order
from raysafe.control.leases import LEASE_S

logger = logging.getLogger(__name__)
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Closing = Callable[[str], None]


def own_clock() -> float:
    """Seconds since the machine started, sleep included where the system counts it."""
    return time.clock_gettime(_CLOCK)


class State(NamedTuple):
    """Only `open` lets anything be answered."""

    status: Literal["open", "killed", "stale", "unreachable"]
    reason: str | None = None
    by: str | None = None


class KillSwitch:
    """Closed until `renewed` says otherwise, for LEASE_S from the start of the look at the store that it reports."""

    def __init__(self, clock: Callable[[], float] = own_clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._order: Order | None = None
        self._failure: str | None = "the kill switch has not been read yet"
        self._ended = False
        self._told_closed = True
        self._callbacks: list[Closing] = []
        self._changed = threading.Condition()
        self._watch: threading.Thread | None = None

    @property
    def closed(self) -> str | None:
        """Why nothing may be answered now; None while the switch is open. Takes no lock."""
        if self._order is None and self._clock() < self._until:
            return None
        return self.state().reason

    def state(self) -> State:
        """`killed` while an order is known, whatever the store does; `unreachable` where the last look failed."""
        order, failure = self._order, self._failure
        if order is not None:
            return State("killed", str(order), order.by)
        if self._clock() < self._until:
            return State("open")
        if failure is not None:
            return State("unreachable", failure)
        return State(
            "stale", f"the kill switch was last read over {LEASE_S:g} s ago, and the store has not answered since"
        )

    def renewed(self, begun: float, order: Order | None) -> None:
        """The store was read by a transaction that began at `begun`, by `clock`; `order` keeps this gateway closed."""
        with self._changed:
            if self._ended:
                return
            if order is not None:
                self._order = order
            # an order is taken away only under a new lease: readers take no lock
            self._until, self._failure = begun + LEASE_S, None
            self._order = order
            news = self._note()
        _tell(*news)

    def failed(self, reason: str) -> None:
        """The store could not be read; the lease runs on to its end."""
        if not self._ended:
            self._failure = f"the kill switch can't be read: {reason}"

    def start(self) -> None:
        """Watch the lease, so that its end is told though nobody asks."""
        self._watch = threading.Thread(target=self._watch_lease, name="kill-switch", daemon=True)
        self._watch.start()

    def end(self, reason: str) -> None:
        """Close for good."""
        with self._changed:
            self._ended, self._failure, self._until = True, reason, float("-inf")
            news = self._note()
            self._changed.notify_all()
        _tell(*news)
        if self._watch is not None:
            self._watch.join()

    def on_close(self, callback: Closing) -> Callable[[], None]:
        """Call `callback` with the reason at each change from open to closed, and now where it is closed.

        It is called from another thread, must not wait, and is taken off by what is returned.
        """
        with self._changed:
            self._callbacks.append(callback)
            told = self._told_closed
        reason = self.closed if told else None
        if reason is not None:
            callback(reason)

        def take_off() -> None:
            with self._changed:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return take_off

    def _watch_lease(self) -> None:
        while not self._ended:
            with self._changed:
                left = self._until - self._clock()
                # a change of state wakes it before
                self._changed.wait(left if left > 0 else LEASE_S)
                news = self._note()
            _tell(*news)

    def _note(self) -> tuple[str | None, tuple[Closing, ...]]:
        """Under the lock: take note of how it stands; the reason and whom to tell, where it has just closed."""
        reason = self.closed
        before, self._told_closed = self._told_closed, reason is not None
        if before != self._told_closed:
            self._changed.notify_all()
        return reason, () if before or reason is None else tuple(self._callbacks)


def _tell(reason: str | None, callbacks: tuple[Closing, ...]) -> None:
    for callback in callbacks:
        try:
            callback(str(reason))
        except Exception:
            # one session's fault must not keep the others running
            logger.exception("a session could not be told that the service was closed")
