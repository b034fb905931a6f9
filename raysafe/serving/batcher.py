"""Dynamic batching of short work, such as embedding or classifying: what waits when the model comes free goes together.

Nobody is kept waiting for a batch to fill.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from raysafe.serving.backend import ModelFailed, Overloaded

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
_ENDED = "the thread that does the model's work has ended"


@dataclass(slots=True, eq=False)
class _Part(Generic[Item, Result]):
    """What one caller asked, and what has come of it."""

    items: Sequence[Item]
    answer: Future[list[Result]] = field(default_factory=Future)
    results: list[Result] = field(default_factory=list)
    cancelled: bool = False

    @property
    def left(self) -> Sequence[Item]:
        return self.items[len(self.results) :]


class Batcher(Generic[Item, Result]):
    """One thread that does `work` on the items of many callers, at most `max_batch` at a time, in turns."""

    def __init__(self, work: Callable[[list[Item]], Sequence[Result]], *, max_batch: int, max_waiting: int) -> None:
        """work: one result an item; an error that it raises is that of every caller in the batch."""
        self._work, self._max_batch, self._max_waiting = work, max_batch, max_waiting
        self._queue: deque[_Part[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    async def ask(self, items: Sequence[Item]) -> list[Result]:
        """One result an item; cancelling leaves the queue.

        Raises Overloaded where as many callers wait as may, ModelFailed where nobody answers any more.
        """
        part: _Part[Item, Result] = _Part(items)
        with self._changed:
            if self._closed:
                raise ModelFailed(_ENDED)
            if len(self._queue) >= self._max_waiting:
                raise Overloaded
            self._queue.append(part)
            self._changed.notify()
        try:
            return await asyncio.shield(asyncio.wrap_future(part.answer))
        finally:
            part.cancelled = True

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread; who still waits is told so."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._work_on()
        finally:
            with self._changed:
                self._closed = True
                left = [part for part in self._queue if not part.cancelled]
                self._queue.clear()
            for part in left:
                part.answer.set_exception(ModelFailed(_ENDED))

    def _work_on(self) -> None:
        while batch := self._next():
            try:
                results = list(self._work([item for _, items in batch for item in items]))
                expected = sum(len(items) for _, items in batch)
                if len(results) != expected:
                    raise RuntimeError(f"{len(results)} results for {expected} items")
            except Exception as error:
                for part, _ in batch:
                    part.answer.set_exception(error)
                continue
            for part, items in batch:
                part.results += results[: len(items)]
                del results[: len(items)]
                self._settle(part)

    def _settle(self, part: _Part[Item, Result]) -> None:
        """Answer a caller, or queue what is left: behind the others, so that a long list holds nobody up."""
        if not part.left:
            part.answer.set_result(part.results)
        elif not part.cancelled:
            with self._changed:
                self._queue.append(part)

    def _next(self) -> list[tuple[_Part[Item, Result], Sequence[Item]]]:
        """A batch's worth from the front of the queue; empty once closed."""
        with self._changed:
            while True:
                if self._closed:
                    return []
                batch, room = [], self._max_batch
                while self._queue and room:
                    part = self._queue.popleft()
                    if not part.cancelled:
                        batch.append((part, part.left[:room]))
                        room -= len(batch[-1][1])
                if batch:
                    return batch
                self._changed.wait()


async def asked(batcher: Batcher[Item, Result], items: Sequence[Item]) -> list[Result]:
    """`Batcher.ask` of a model: its errors are the model's, of which a client is told the name alone."""
    try:
        return await batcher.ask(items)
    except (Overloaded, ModelFailed):
        raise
    except Exception as error:
        logger.exception("a model failed")
        raise ModelFailed(type(error).__name__) from error
