"""Chunks of work for whichever rank is free; a chunk that takes far too long is given to a second rank."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysafe.runtime.group import ActorGroup


class Deal:
    """Which chunk a free rank gets next. Pure: the time is told.

    factor: a chunk that takes longer than this many medians of finished ones is dealt a second time, once.
    """

    def __init__(self, chunks: int, factor: float | None) -> None:
        self.waiting = list(range(chunks))[::-1]
        self.factor = factor
        self.started: dict[int, float] = {}
        self.twice: set[int] = set()
        self.seconds: list[float] = []

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.started

    def take(self, now: float) -> int | None:
        """A chunk for a free rank: one that waits, or else the one that is overdue longest."""
        if self.waiting:
            chunk = self.waiting.pop()
            self.started[chunk] = now
            return chunk
        late = self._late()
        if late is None or self.due_in(now) > 0:
            return None
        self.twice.add(late)
        return late

    def due_in(self, now: float) -> float:
        """Seconds until a free rank would get a second copy; infinite where none is to come."""
        late = self._late()
        if late is None or self.factor is None or not self.seconds:
            return float("inf")
        return max(0.0, self.started[late] + self.factor * statistics.median(self.seconds) - now)

    def finish(self, chunk: int, now: float) -> bool:
        """Whether this answer is the chunk's first, and so counts."""
        if chunk not in self.started:
            return False
        self.seconds.append(now - self.started.pop(chunk))
        return True

    def _late(self) -> int | None:
        alone = [chunk for chunk in self.started if chunk not in self.twice]
        return min(alone, key=lambda chunk: self.started[chunk], default=None)


def spread(
    group: ActorGroup,
    role: str,
    method: str,
    chunks: Sequence[tuple[Any, ...]],
    *,
    factor: float | None,
    deadline_s: float,
) -> list[Any]:
    """Answers in the order of the chunks; raises as ActorGroup.collect. The deadline is between two answers."""
    import ray

    group.check()
    what = f"{role}.{method}"
    deal = Deal(len(chunks), factor)
    answers: dict[int, Any] = {}
    running: dict[Any, tuple[int, int | None]] = {ref: (rank, None) for rank, ref in group.behind.items()}
    idle = [rank for rank in range(group.workers) if rank not in group.behind]
    heard = time.monotonic()
    while not deal.finished:
        now = time.monotonic()
        while idle and (chunk := deal.take(now)) is not None:
            rank = idle.pop(0)
            running[group.submit(rank, role, method, chunks[chunk], {})] = (rank, chunk)
        left = heard + deadline_s - now
        patience = min(left, deal.due_in(now)) if idle else left
        done, _ = ray.wait(list(running), num_returns=1, timeout=max(0.0, patience))
        if not done and time.monotonic() - heard >= deadline_s:
            raise group.hung(sorted({rank for rank, _ in running.values()}), what, deadline_s)
        for ref in done:
            rank, chunk = running.pop(ref)
            answer = group.answer(ref, rank, what)
            idle.append(rank)
            heard = time.monotonic()
            if chunk is not None and deal.finish(chunk, heard):
                answers[chunk] = answer
    group.behind = {rank: ref for ref, (rank, _) in running.items()}
    return [answers[chunk] for chunk in range(len(chunks))]
