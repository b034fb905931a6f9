"""Ctrl-C and SIGTERM in a loop of one's own: the first asks for a checkpoint and an end, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """Context manager; `wanted` after the first signal, KeyboardInterrupt at the second."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.wanted = say, False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # other threads can't take signals: there the caller's own handlers stand
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        self.say("stopping after this step, with a checkpoint (Ctrl-C again to stop at once)")
