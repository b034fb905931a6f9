"""Continuous batching on a transformers model: rows come and go while the others are being written.

New prompts are read a part at a time between the tokens of those that are running, so that a long one holds up nobody
for its whole length, and then join the running batch. Batches are kept apart only where padding would cost more than
joining saves: one pass over the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raysafe.models.generate.decoding import Decoding
from raysafe.models.generate.pool import Failures
from raysafe.models.generate.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHUNK_TOKENS = {"cpu": 128}
"""Tokens of prompts read at a time. On a CPU 128 take as long as six to ten steps of a running batch, 2026-11."""
_DEVICE_CHUNK_TOKENS = 1024
_SHORT = 64
_OLDEST_EVERY = 4
"""Of so many parts, one is of the prompt that has waited longest; the others are of the one that needs the least."""


class JoiningPool:
    """A Pool on one model."""

    def __init__(self, model: PreTrainedModel, stop_ids: frozenset[int], *, max_rows: int, max_tokens: int) -> None:
        """max_tokens: of prompts and longest answers, all rows together; a single longer row is taken alone."""
        self._model, self._stop_ids = model, stop_ids
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._weight_bytes = sum(parameter.nbytes for parameter in model.parameters())
        self._chunk = _CHUNK_TOKENS.get(model.device.type, _DEVICE_CHUNK_TOKENS)
        self._reading: list[Decoding] = []
        self._writing: list[Decoding] = []
        self._reads = 0
        self._dropped: set[Row] = set()

    @property
    def _held(self) -> list[Row]:
        return [row for batch in (*self._reading, *self._writing) for row in batch.live]

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Take those at the front for which there is room."""
        held = self._held
        count, tokens = len(held), sum(row.longest for row in held)
        taken: list[Row] = []
        for row in rows:
            if count and (count == self._max_rows or tokens + row.longest > self._max_tokens):
                break
            taken.append(row)
            count, tokens = count + 1, tokens + row.longest
        self._reading += [Decoding(self._model, batch, self._stop_ids) for batch in _alike(taken, self._chunk)]
        return taken

    def drop(self, rows: Sequence[Row]) -> None:
        self._dropped |= set(rows)

    def step(self) -> Failures:
        failures: Failures = []
        self._let_go()
        for batch in list(self._writing):
            self._attempt(batch, self._writing, failures)
        if self._reading:
            self._attempt(self._next_to_read(), self._reading, failures)
        self._writing = [batch for batch in self._writing if batch.live]
        return failures

    def _next_to_read(self) -> Decoding:
        self._reads += 1
        if self._reads % _OLDEST_EVERY == 0:
            return self._reading[0]
        return min(self._reading, key=lambda batch: batch.unread * len(batch.live))

    def _attempt(self, batch: Decoding, batches: list[Decoding], failures: Failures) -> None:
        """A batch that fails takes its own rows with it."""
        try:
            self._advance(batch)
        except Exception as error:
            failures += [(row, error) for row in batch.live]
            batches.remove(batch)

    def _advance(self, batch: Decoding) -> None:
        if batch.unread > 0:
            batch.read(max(1, self._chunk // len(batch.live)))
            if batch.unread:
                return
        batch.step()
        if batch in self._reading:
            self._reading.remove(batch)
            if batch.live:
                self._place(batch)

    def _place(self, batch: Decoding) -> None:
        """Join the running batch that costs the least padding, or run beside them."""
        fits = [other for other in self._writing if other.live and self._padding_pays(batch, other)]
        if fits:
            min(fits, key=lambda other: _padding(batch, other)).join(batch)
        else:
            self._writing.append(batch)

    def _padding_pays(self, one: Decoding, other: Decoding) -> bool:
        if not (one.joinable and other.joinable):
            return False
        tokens = (len(one.live) + len(other.live)) * max(one.columns, other.columns)
        return _padding(one, other) * one.column_bytes <= self._weight_bytes and tokens <= self._max_tokens

    def _let_go(self) -> None:
        """Rows whose callers have gone; those whose prompt is still being read go with it, or at its end."""
        if not self._dropped:
            return
        self._reading = [batch for batch in self._reading if not self._dropped.issuperset(batch.live)]
        for batch in list(self._writing):
            if not self._dropped.isdisjoint(batch.live):
                batch.drop(self._dropped)
        self._writing = [batch for batch in self._writing if batch.live]
        self._dropped &= set(self._held)


def _alike(rows: list[Row], tokens: int) -> list[list[Row]]:
    """The rows in batches of similar prompts that are read at once: none is more than twice as long as another, short
    ones aside, and together they have no more than so many tokens, unless one has by itself."""
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        size = len(row.prompt)
        fits = batches and size * (len(batches[-1]) + 1) <= tokens
        if fits and size <= max(_SHORT, 2 * len(batches[-1][0].prompt)):
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _padding(one: Decoding, other: Decoding) -> int:
    """Columns that joining adds, of all rows together."""
    shorter = min(one, other, key=lambda batch: batch.columns)
    return len(shorter.live) * abs(one.columns - other.columns)
