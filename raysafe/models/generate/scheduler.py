"""One thread that writes the answers of many callers at once, and hands each its text as it comes.

Nobody waits for a batch to fill: a prompt begins as soon as the pool has room for it, whole and streamed ones alike.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raysafe.errors import ModelError
from raysafe.models.generate.engine import Generation, SamplingParams
from raysafe.models.generate.pool import Pool
from raysafe.models.generate.rows import Row, check_stream, make_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class QueueFull(Exception):
    """As many prompts wait as may wait; `wait_s`: how long the first of them has been waiting."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the queue is full; its first prompt has waited {wait_s:.1f} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Update:
    """What has come since the last one; `end` is set with the last: the whole answer, or why there is none."""

    text: str
    tokens: int
    """Written in all so far."""
    end: Generation | Exception | None = None


Sink = Callable[[Update], None]
"""Called from the scheduler's thread: it must not wait. One that raises is told nothing more."""


@dataclass(eq=False, slots=True)
class Ticket:
    """One caller's prompt."""

    row: Row
    sink: Sink
    since: float = field(default_factory=time.monotonic)
    shown: int = 0
    cancelled: bool = False


class Scheduler:
    """Steps a pool for as long as there is something to write."""

    def __init__(self, pool: Pool, tokenizer: PreTrainedTokenizerBase, *, context: int, max_waiting: int) -> None:
        """context: longest prompt and answer together. max_waiting: prompts beside those that are being written."""
        self._pool, self._tokenizer, self._context, self._max_waiting = pool, tokenizer, context, max_waiting
        self._waiting: list[Ticket] = []
        self._running: dict[Row, Ticket] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, prompt: Sequence[int], sampling: SamplingParams, sink: Sink, *, stream: bool = True) -> Ticket:
        """Queue a prompt for one answer; its seed is the one in `sampling`. stream: tell of each piece of text, not of
        the end alone.

        Raises QueueFull, and ModelError for a prompt that is empty or leaves no room.
        """
        check_stream(sampling)
        watch = stream or bool(sampling.stop)
        (row,) = make_rows([prompt], sampling, self._tokenizer, context=self._context, watch=watch)
        ticket = Ticket(row, sink, shown=0 if stream else -1)
        with self._changed:
            if self._closed:
                raise ModelError("the model was taken down, or has failed for good: start its replica anew")
            if len(self._waiting) >= self._max_waiting:
                raise QueueFull(time.monotonic() - self._waiting[0].since if self._waiting else 0.0)
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Write no more of it, and tell its sink nothing more; one that has ended stays as it is."""
        with self._changed:
            ticket.cancelled = True
            self._changed.notify()

    @property
    def alive(self) -> bool:
        """Whether its thread runs: once it has ended, nothing is answered any more."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread; what was not answered is told so."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        reason: Exception = ModelError("the model was taken down before it had answered")
        try:
            while self._admit():
                for row, error in self._pool.step():
                    self._end(row, error)
                for row in list(self._running):
                    self._tell(row)
        except Exception as error:
            logger.exception("the thread that writes answers has ended")
            reason = error
        with self._changed:
            self._closed = True
            left = [*self._waiting, *self._running.values()]
        for ticket in left:
            self._send(ticket, Update("", 0, reason))

    def _admit(self) -> bool:
        """Wait for something to do, and begin what there is room for; false once closed."""
        with self._changed:
            while True:
                self._waiting = [ticket for ticket in self._waiting if not ticket.cancelled]
                gone = [row for row, ticket in self._running.items() if ticket.cancelled]
                if gone:
                    self._pool.drop(gone)
                for row in gone:
                    del self._running[row]
                if self._closed:
                    return False
                if self._waiting or self._running:
                    break
                self._changed.wait()
            waiting = {ticket.row: ticket for ticket in self._waiting}
            taken = self._pool.admit(list(waiting)) if waiting else []
            self._running |= {row: waiting.pop(row) for row in taken}
            self._waiting = list(waiting.values())
            return True

    def _tell(self, row: Row) -> None:
        ticket = self._running[row]
        if row.finish is not None:
            self._end(row, row.generation(self._tokenizer))
        elif row.writer is not None and -1 < ticket.shown < len(row.writer.text):
            text = row.writer.text[ticket.shown :]
            ticket.shown += len(text)
            self._send(ticket, Update(text, row.writer.count))

    def _end(self, row: Row, end: Generation | Exception) -> None:
        # a row that was dropped in the same step has nobody to tell
        ticket = self._running.pop(row, None)
        if ticket is None:
            return
        if isinstance(end, Exception):
            self._send(ticket, Update("", 0, end))
        else:
            self._send(ticket, Update(end.text[max(ticket.shown, 0) :], len(end.tokens), end))

    def _send(self, ticket: Ticket, update: Update) -> None:
        if ticket.cancelled:
            return
        try:
            ticket.sink(update)
        except Exception:
            # such as an event loop that was closed: its own answer ends, not everybody's
            logger.exception("an answer's reader is gone")
            ticket.cancelled = True
