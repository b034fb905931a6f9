"""Dynamic batching: whatever waits when the engine comes free, and may be drawn together, is generated together."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from raysafe.models.generate.engine import Engine, Generation, SamplingParams


@dataclass(slots=True)
class Waiting:
    """A prompt in the queue; `seed` None lets it share any batch's seed."""

    prompt: Sequence[int]
    sampling: SamplingParams
    seed: int | None
    answer: Future[Generation] = field(default_factory=Future)
    cancelled: bool = False

    @property
    def group(self) -> tuple[SamplingParams, int | None]:
        return self.sampling, self.seed


class Batcher:
    """One thread that feeds the engine. Nobody is kept waiting for a batch to fill: it takes what is there."""

    def __init__(self, engine: Engine, max_batch: int) -> None:
        self._engine, self._max_batch = engine, max_batch
        self._queue: list[Waiting] = []
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="batcher", daemon=True).start()

    async def generate(self, prompt: Sequence[int], sampling: SamplingParams, seed: int | None) -> Generation:
        """The answer to one prompt; cancelling it frees its place, and its batch once all of it is cancelled."""
        waiting = Waiting(prompt, sampling, seed)
        with self._changed:
            self._queue.append(waiting)
            self._changed.notify()
        try:
            return await asyncio.shield(asyncio.wrap_future(waiting.answer))
        finally:
            waiting.cancelled = True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._next():
            seed = batch[0].seed if batch[0].seed is not None else secrets.randbelow(1 << 62)
            sampling = batch[0].sampling.model_copy(update={"seed": seed})
            prompts = [waiting.prompt for waiting in batch]
            try:
                answers = self._engine.generate(prompts, sampling, lambda batch=batch: all(w.cancelled for w in batch))
                for waiting, answer in zip(batch, answers, strict=True):
                    waiting.answer.set_result(answer)
            except Exception as error:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)

    def _together(self, waiting: list[Waiting]) -> list[Waiting]:
        """A batch's worth. A stated seed draws the same answer each time, so a prompt comes once under it."""
        if waiting[0].seed is not None:
            waiting = list({tuple(one.prompt): one for one in reversed(waiting)}.values())[::-1]
        return waiting[: self._max_batch]

    def _next(self) -> list[Waiting]:
        """The longest-waiting prompt and those that may be drawn with it; empty once the batcher is closed."""
        with self._changed:
            while True:
                self._queue = [waiting for waiting in self._queue if not waiting.cancelled]
                if self._closed:
                    return []
                if self._queue:
                    group = self._queue[0].group
                    batch = self._together([waiting for waiting in self._queue if waiting.group == group])
                    self._queue = [w for w in self._queue if not any(w is taken for taken in batch)]
                    return batch
                self._changed.wait()
