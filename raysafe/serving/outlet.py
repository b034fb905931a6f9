"""Cleared text on its way out: while one release's audit row is being committed, what comes gathers for the next.

The first text leaves a millisecond after it is cleared, with what else is cleared by then: of an answer that comes all
at once nothing need leave early. After it, a fast model's text leaves in releases of `window` characters, and a slow
one's every `interval_s`: guards and rows cost by the call, and a reader sees no finer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_FIRST_OFFERS = 8
"""Pieces that are each tried at once until the first text leaves: guards may hold back the first of a word."""
_FIRST_WAITS_S = 0.001


class Outlet:
    """The releases of one streamed answer; use as a context manager."""

    def __init__(self, window: int, interval_s: float, release: Callable[[str], Awaitable[None]]) -> None:
        self._window, self._interval_s, self._release = window, interval_s, release
        self._eager = _FIRST_OFFERS
        self._last = time.monotonic()
        self._leaving: asyncio.Future[None] | None = None
        self._begun = False
        """Whether any text was given to a release: the first waits for company."""
        self._waiting: list[str] = []
        self._characters = 0
        self.sent = 0
        """Characters that were given to a release."""

    def take_rest(self) -> str:
        """The cleared text that no release was given: after it, the outlet is only to be settled."""
        if self._leaving is not None and not self._begun:
            self._leaving.cancel()
            self._leaving = None
        return self._take()

    def due(self, characters: int) -> bool:
        """Whether to offer now what so many characters have gathered to: whether some of it would leave."""
        if self._leaving is not None and not self._leaving.done():
            # nothing leaves before the row under way is durable; but guards aren't left far behind the model
            return characters >= 4 * self._window
        if self._eager or self._characters + characters >= self._window:
            return True
        return time.monotonic() - self._last >= self._interval_s

    def offer(self, text: str) -> None:
        """More cleared text; raises what the last release raised."""
        self._waiting.append(text)
        self._characters += len(text)
        if self._leaving is not None and self._leaving.done():
            self._leaving.result()
            self._leaving = None
        due = self._leaving is None and self.due(0)
        self._eager = max(0, self._eager - 1)
        if self._characters and due:
            self._eager, self._last = 0, time.monotonic()
            # a release is begun at once, for its row stands in the order of decisions
            self._leaving = asyncio.ensure_future(self._begin() if self._begun else self._begin_later())

    async def _begin_later(self) -> None:
        await asyncio.sleep(_FIRST_WAITS_S)
        await self._begin()

    def _begin(self) -> Awaitable[None]:
        self._begun = True
        self.sent += self._characters
        return self._release(self._take())

    def _take(self) -> str:
        text = "".join(self._waiting)
        self._waiting, self._characters = [], 0
        return text

    async def settle(self) -> None:
        """Until the release under way has left."""
        if self._leaving is not None:
            await self._leaving
            self._leaving = None

    async def __aenter__(self) -> Outlet:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
