"""How many requests are under way, and when there are too many: backpressure before memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysafe.serving.refusals import overloaded


class Crowd:
    """Counts on one event loop; `limit` requests at most."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0

    def check(self) -> None:
        """Raise the ApiError of a full service."""
        if self.count >= self.limit:
            raise overloaded()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """While one request is under way; raises where there is no room for it."""
        self.check()
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
