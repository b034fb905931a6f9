"""Judges for callers that aren't asynchronous: coroutines run on one event loop, in a thread of its own.

One loop for the life of the process, so that an endpoint's connections stay open from call to call; and a thread, so
that it works inside a caller's own running loop as well.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""By process id: a forked child doesn't inherit the thread."""


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; Ctrl-C cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        if os.getpid() not in _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="raysafe-judges", daemon=True).start()
            _loops[os.getpid()] = loop
        return _loops[os.getpid()]
