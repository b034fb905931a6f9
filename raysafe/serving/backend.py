"""What the gateway asks of a model, and two that only look like one: for benchmarks and tests, by explicit name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from raysafe.guards.guard import Message, Scale, Tool, ToolCall

Finish = Literal["stop", "length", "tool_calls"]


class PromptRefused(Exception):
    """The model can't take these messages: too long for its context, or an order of roles that its template refuses."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code)
        self.message, self.code = message, code


class ModelFailed(Exception):
    """The replica failed on the prompt or is away."""


class Overloaded(Exception):
    """The model takes no more requests now; `retry_after_s` says when to come back."""

    def __init__(self, retry_after_s: float = 1.0) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class NotOffered(Exception):
    """The model does nothing of this kind, such as embeddings of a model that only writes."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Admitted messages and how to sample; `max_tokens` None means as many as fit, up to the replica's own limit.

    raw: the one message's content is the prompt itself, and no chat template is put around it. tool_choice: auto, none,
    required, or the name of a tool.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; the calls in it are no part of its text."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Finish = "stop"
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a streamed answer. Counts are in all so far; the last piece has the finish reason and all tool calls."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Finish | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector a text."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classifier's answer to one input; `label` None: it abstains. `radius` is set where the model certifies."""

    label: str | None
    scores: dict[str, float]
    radius: float | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """Observations to act at, each by itself. Actions that are drawn are the same for the same seed."""

    observations: tuple[tuple[float, ...], ...]
    deterministic: bool = True
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What a policy does at one observation: the number of a discrete action, or the values of a continuous one.

    scores: what the policy gives each of its discrete actions, probabilities or values; None where it gives none.
    """

    action: int | tuple[float, ...]
    scores: tuple[float, ...] | None = None
    scale: Scale = "probabilities"


Inputs = tuple[str, ...] | tuple[tuple[float, ...], ...]


class Backend(Protocol):
    """A model behind the gateway. Cancelling a call, or closing the stream, ends the generation.

    What a model doesn't do raises NotOffered.
    """

    async def complete(self, prompt: Prompt) -> Completion: ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]: ...

    async def embed(self, texts: tuple[str, ...]) -> Embeddings: ...

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]: ...

    async def act(self, situation: Situation) -> tuple[Move, ...]: ...


class WritesOnly:
    """The other methods of a model that only writes."""

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        raise NotOffered

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...]:
        raise NotOffered

    async def act(self, situation: Situation) -> tuple[Move, ...]:
        raise NotOffered


class NullBackend(WritesOnly):
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
