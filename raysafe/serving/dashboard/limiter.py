"""How often somebody may try to sign in: failures, counted by address and in all, in each gateway by itself."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_S = 60.0
OF_ONE, OF_ALL = 10, 120
"""Failures in a window after which an address, or everybody, has to wait."""
MOST_ADDRESSES = 1024


class Limiter:
    """Used on one event loop. It remembers no more than OF_ALL failures of MOST_ADDRESSES addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def wait_s(self, address: str) -> float:
        """How long this address must wait before it may try; 0 where it needn't."""
        return max(self._left(self._of.get(address, deque()), OF_ONE), self._left(self._all, OF_ALL))

    def failed(self, address: str) -> None:
        now = self._clock()
        mine = self._of.setdefault(address, deque(maxlen=OF_ONE))
        self._of.move_to_end(address)
        mine.append(now)
        self._all.append(now)
        if len(self._all) > OF_ALL:
            self._all.popleft()
        if len(self._of) > MOST_ADDRESSES:
            self._of.popitem(last=False)

    def _left(self, failures: deque[float], most: int) -> float:
        return max(0.0, failures[0] + WINDOW_S - self._clock()) if len(failures) >= most else 0.0
