"""Asking the guarded model itself, for guards that compare its answers: from their threads, over the gateway's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raysafe.guards.guard import Message
from raysafe.serving.backend import Backend, Prompt


class Asking:
    """`resources.upstream` of a gateway's guards. Its answers are the service's own cost, and no key's."""

    def __init__(self, backend: Backend, max_tokens: int, timeout_s: float) -> None:
        self._backend, self._max_tokens, self._timeout_s = backend, max_tokens, timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None

    def here(self) -> None:
        """Use the event loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def __call__(self, messages: Sequence[Message]) -> str:
        """The model's answer, drawn anew at each call; raises what the model raises, or TimeoutError."""
        if self._loop is None:
            raise RuntimeError("the gateway's event loop doesn't run yet")
        prompt = Prompt(tuple(messages), max_tokens=self._max_tokens)
        under_way = asyncio.run_coroutine_threadsafe(self._backend.complete(prompt), self._loop)
        try:
            return under_way.result(self._timeout_s).text
        finally:
            under_way.cancel()
