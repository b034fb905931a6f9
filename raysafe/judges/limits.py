"""When an endpoint may be asked: a rate, waits after failures, and what its Retry-After says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

FIRST_WAIT_S, LONGEST_BACKOFF_S = 0.5, 30.0


class Clock:
    """Seconds that only go forward, and waiting; tests give another."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RateLimit:
    """Requests start at least 60 / per_minute seconds apart, and none within a pause. Threads may share it."""

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._next = self._resume = clock.now()
        self._lock = threading.Lock()

    async def turn(self) -> None:
        """Wait until one more request may start."""
        while True:
            with self._lock:
                start = max(self._next, self._resume, self._clock.now())
                self._next = start + self._gap_s
            while (wait_s := start - self._clock.now()) > 0:
                await self._clock.sleep(wait_s)
            # a pause may have begun while this one waited
            if self._clock.now() >= self._resume:
                return

    def pause(self, seconds: float) -> None:
        """No request is given its turn within `seconds`: the endpoint asked for it."""
        with self._lock:
            self._resume = max(self._resume, self._clock.now() + seconds)


def backoff_s(failures: int, random: Random) -> float:
    """Wait after so many failures, doubling from half a second to thirty; a quarter of it is drawn ("jitter")."""
    return min(FIRST_WAIT_S * 2 ** min(failures - 1, 16), LONGEST_BACKOFF_S) * (1 - 0.25 * random.random())


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by Retry-After, a number or a date (RFC 9110, section 10.2.3); None where it says neither."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
