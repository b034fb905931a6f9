"""The recorder of one gateway: exchanges in, windows of figures out to the store, by a thread of its own.

A request only leaves its exchange in a queue. The queue is bounded in exchanges and characters, and so is what waits
for a store that is away; what finds no room is left out and counted. An exchange, with its text, is let go as soon as
its figures are computed, within a moment of its end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import uuid4

from raysafe.errors import StorageError, raised_at
from raysafe.monitoring.observation import Ended, observe
from raysafe.monitoring.resources import Resources
from raysafe.monitoring.window_store import write_windows
from raysafe.monitoring.windows import Window, WindowBuilder
from raysafe.records.store import Store

logger = logging.getLogger(__name__)
WAITING, WAITING_CHARACTERS = 2048, 16_000_000
"""Exchanges whose figures are still to be computed, and their characters in all."""
UNWRITTEN = 120
"""Windows that wait for a store that is away."""
STORE_WAIT_S = 2.0
_LOOK_S = 0.25

Figures = Callable[[], Iterable[tuple[str, float]]]


class Recorder:
    """Made anywhere, started in the gateway's own process."""

    def __init__(self, store_url: str, service: str, *, window_s: float = 5.0) -> None:
        """window_s: seconds of a window. Touches nothing yet."""
        self._url, self._service, self._window_s = store_url, service, window_s
        self.gateway = uuid4().hex
        self._queue: deque[Ended] = deque()
        self._notes: deque[tuple[str, float]] = deque(maxlen=WAITING)
        self._characters = 0
        self._lock = threading.Lock()
        self._left_out = 0
        self._gauges: list[Figures] = []
        self._unwritten: deque[tuple[datetime, Window]] = deque(maxlen=UNWRITTEN)
        self._store: Store | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def gauge(self, figures: Figures) -> None:
        """Ask for these at each window's end; from the recorder's thread."""
        self._gauges.append(figures)

    def start(self) -> None:
        self._gauges.append(Resources().measure)
        self._thread.start()

    def stop(self) -> None:
        """Write the window that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._store is not None:
            self._store.close()

    def ended(self, ended: Ended) -> None:
        """Take note of an exchange's end; from any thread, without waiting for anything."""
        size = ended.characters
        with self._lock:
            if len(self._queue) >= WAITING or self._characters + size > WAITING_CHARACTERS:
                self._left_out += 1
                return
            self._characters += size
            self._queue.append(ended)

    def note(self, metric: str, value: float) -> None:
        """One value of a metric that no exchange's end tells; from any thread."""
        self._notes.append((metric, value))

    def _run(self) -> None:
        builder, begun, start = WindowBuilder(), time.monotonic(), datetime.now(UTC)
        while True:
            ending = self._stop.wait(_LOOK_S)
            self._drain(builder)
            if ending or time.monotonic() - begun >= self._window_s:
                self._close(builder, start, time.monotonic() - begun)
                begun, start = time.monotonic(), datetime.now(UTC)
            if ending:
                return

    def _drain(self, builder: WindowBuilder) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    break
                ended = self._queue.popleft()
                self._characters -= ended.characters
            try:
                observe(ended, builder)
            except Exception as error:
                # whatever a text does to a feature: the figures of all others must go on
                logger.error("an exchange could not be observed: %s at %s", type(error).__name__, raised_at(error))
                builder.add([("monitor.failed", 1.0)])
        while self._notes:
            builder.add([self._notes.popleft()])

    def _close(self, builder: WindowBuilder, start: datetime, seconds: float) -> None:
        for figures in self._gauges:
            builder.add(figures())
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            builder.add([("monitor.unobserved", float(left_out))])
        window = builder.close(seconds)
        served = window.numbers.get("performance.seconds")
        builder.add([("performance.requests_per_s", (served.count if served else 0) / seconds)])
        window.numbers |= builder.close(seconds).numbers
        self._unwritten.append((start, window))
        self._write()

    def _write(self) -> None:
        """Write what waits; it waits on where the store can't take it."""
        waiting = list(self._unwritten)
        try:
            if self._store is None:
                self._store = Store(self._url, wait_s=STORE_WAIT_S, make=False)
            write_windows(self._store, self._service, self.gateway, waiting)
        except StorageError as error:
            logger.warning("the monitor's figures wait, for the store can't be written: %s", error)
            if self._store is not None:
                self._store.close()
                self._store = None
            return
        self._unwritten.clear()
