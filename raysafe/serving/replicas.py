"""The model's side of Ray Serve: one class of replica, whatever the model's folder holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Literal, Protocol, TypeVar

from pydantic import Field

from raysafe.config import Config
from raysafe.serving.backend import (
    Backend,
    Completion,
    Embeddings,
    Inputs,
    ModelFailed,
    Move,
    NotOffered,
    Overloaded,
    Piece,
    Prediction,
    Prompt,
    PromptRefused,
    Situation,
)

T = TypeVar("T")
REFUSALS = (PromptRefused, ModelFailed, Overloaded, NotOffered)
"""What a backend may raise."""


class LocalBackend(Backend, Protocol):
    """A Backend on this machine, with a thread that does its work."""

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


class ReplicaSettings(Config):
    """One model on one replica."""

    folder: str = Field(description="The model's folder.")
    digest: str | None = Field(
        default=None, description="sha256 that the folder must have; it is checked before and after each load."
    )
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers", description="What writes: transformers on any device, or vLLM where its extra is there."
    )
    cache_bytes: int | None = Field(
        default=None, ge=1, description="vllm: memory of its key/value cache; most of what is free by default."
    )
    chat_template: str = Field(
        default="auto", description="auto (the tokenizer's own), plain, or the path of a Jinja file."
    )
    max_tokens: int = Field(
        default=1024, ge=1, description="Longest answer where a request asks for none in particular."
    )
    max_batch: int = Field(default=16, ge=1, description="Most answers written together, whole and streamed.")
    max_waiting: int = Field(default=256, ge=1, description="Most requests that wait; further ones are refused.")


class ModelReplica:
    """Loads a model, after checking that its files are the approved ones, and does what the gateway asks of it.

    What a backend raises is returned, or is a stream's last item: errors change their class on the way through Ray.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        from raysafe.serving.local import load_backend

        self._backend = load_backend(settings)

    @classmethod
    def over(cls, backend: LocalBackend) -> ModelReplica:
        """A replica over a backend that is there already."""
        replica = cls.__new__(cls)
        replica._backend = backend
        return replica

    def check_health(self) -> None:
        """Asked by Serve at intervals: a replica that raises is replaced."""
        if not self._backend.alive:
            raise ModelFailed("the thread that does the model's work has ended")

    async def complete(self, prompt: Prompt) -> Completion | Exception:
        return await _returned(self._backend.complete(prompt))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Exception]:
        """Pieces as they are written; closing the generator ends the generation at the next token."""
        try:
            async with aclosing(self._backend.stream(prompt)) as pieces:
                async for piece in pieces:
                    yield piece
        except REFUSALS as refused:
            yield refused

    async def embed(self, texts: tuple[str, ...]) -> Embeddings | Exception:
        return await _returned(self._backend.embed(texts))

    async def predict(self, inputs: Inputs) -> tuple[Prediction, ...] | Exception:
        return await _returned(self._backend.predict(inputs))

    async def act(self, situation: Situation) -> tuple[Move, ...] | Exception:
        return await _returned(self._backend.act(situation))


async def _returned(answer: Awaitable[T]) -> T | Exception:
    try:
        return await answer
    except REFUSALS as refused:
        return refused
