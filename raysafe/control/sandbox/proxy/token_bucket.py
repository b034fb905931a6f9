"""A token bucket: over any time t no more than burst + rate * t bytes pass."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Tells how long to wait before bytes may pass. It counts them at once, so that those who ask later wait longer."""

    def __init__(self, bytes_per_s: float, burst_bytes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = bytes_per_s, burst_bytes, clock
        self._tokens, self._at = burst_bytes, clock()

    def take(self, size: int) -> float:
        """Seconds until `size` bytes may pass."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - size
        self._at = now
        return max(0.0, -self._tokens / self._rate)
