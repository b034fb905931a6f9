"""What the gateway asks of a model, and two that only look like one: for benchmarks and tests, by explicit name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from raysafe.guards.guard import Message


class PromptRefused(Exception):
    """The model can't take these messages: too long for its context, or an order of roles that its template refuses."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code)
        self.message, self.code = message, code


class ModelFailed(Exception):
    """The replica failed on the prompt or is away."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Admitted messages and how to sample; `max_tokens` None means as many as fit, up to the replica's own limit."""

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length"] = "stop"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a streamed answer. Counts are in all so far; the last piece has the finish reason."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length"] | None = None


class Backend(Protocol):
    """A model behind the gateway. Cancelling `complete`, or closing the stream, ends the generation."""

    async def complete(self, prompt: Prompt) -> Completion: ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]: ...


class NullBackend:
    """Answers a fixed text at once: what is left to measure is the gateway."""

    def __init__(self, text: str = "", piece_characters: int = 20) -> None:
        self.text, self._size = text, piece_characters

    def _text(self, prompt: Prompt) -> str:
        return self.text

    async def complete(self, prompt: Prompt) -> Completion:
        text = self._text(prompt)
        return Completion(text, _words(*(m.content for m in prompt.messages)), _words(text))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        text, asked = self._text(prompt), _words(*(m.content for m in prompt.messages))
        for start in range(0, len(text), self._size):
            part = text[start : start + self._size]
            yield Piece(part, asked, _words(text[: start + self._size]))
            await asyncio.sleep(0)
        yield Piece("", asked, _words(text), "stop")


class EchoBackend(NullBackend):
    """Answers the last message's own text."""

    def _text(self, prompt: Prompt) -> str:
        return prompt.messages[-1].content


def _words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)
