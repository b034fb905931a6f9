"""Whether anything may be answered now: the kill switch as requests see it, before they begin and while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from raysafe.control.keys import Key, KeyRing
from raysafe.control.killswitch import State
from raysafe.control.measures import NONE, Measures
from raysafe.serving.refusals import closed
from raysafe.serving.terms import changed
from raysafe.serving.wire.errors import ApiError

_WORDS = {
    "killed": "it was killed, and a second person must restore it",
    "stale": "it hasn't heard from its store in time",
    "unreachable": "it can't reach its store",
}
_JUST_NOW = "it was closed just now"


class Plane(Protocol):
    """What a gateway is told from outside, as control.watch.ControlPlane does: whether it is closed, and its keys."""

    @property
    def closed(self) -> str | None:
        """Why nothing may be answered now, or None. It is read often and must cost nothing."""
        ...

    @property
    def keys(self) -> KeyRing: ...

    @property
    def measures(self) -> Measures:
        """What the interventions in force ask for; it is read often and must cost nothing."""
        ...

    def state(self) -> State:
        """What clients may know of it: whether it is open, killed, stale or unreachable."""
        ...

    def on_close(self, callback: Callable[[str], None]) -> Any:
        """Call `callback` with the reason, from any thread, each time that it closes."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class AlwaysOpen:
    """The plane of a gateway that nobody can close, with keys that stay: a benchmark's, or a test's."""

    closed = None
    measures = NONE

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = KeyRing(keys)

    def state(self) -> State:
        return State("open")

    def on_close(self, callback: Callable[[str], None]) -> None:
        return None

    def start(self) -> None:
        return None

    def stop(self) -> None:
        return None


class Door:
    """A gateway's side of its plane; made on any thread, used on one event loop."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        plane.on_close(self._closed_from_any_thread)

    @property
    def shut(self) -> str | None:
        """Why it is closed, in words for anyone; None while it is open. Its sentence names people and paths."""
        return None if self._plane.closed is None else _WORDS.get(self._plane.state().status, _JUST_NOW)

    def check(self) -> None:
        """Raise the ApiError of a closed service."""
        if self._plane.closed is not None:
            raise self.error()

    def check_unchanged(self, begun_under: Measures) -> None:
        """Raise the ApiError of an answer that was begun under laxer measures than those in force now."""
        now = self._plane.measures
        if now is not begun_under and now.stricter_than(begun_under):
            raise changed()

    def error(self) -> ApiError:
        """What clients are told where it is closed, or was just now."""
        return closed(self.shut or _JUST_NOW)

    def watch(self) -> asyncio.Future[None]:
        """Done when the door next closes. Taken before `check`, it misses no closing."""
        if self._closing is None or self._closing.done():
            self._loop = asyncio.get_running_loop()
            self._closing = self._loop.create_future()
        return self._closing

    def _closed_from_any_thread(self, reason: str) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
