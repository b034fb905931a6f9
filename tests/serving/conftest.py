"""A gateway in this process: ASGI without a socket, the official OpenAI client in front, a ledger in memory behind."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from raysafe.control.keys import new_key
from raysafe.guards.guard import ToolCall
from raysafe.guards.policy import Policy
from raysafe.serving.backend import Backend, Completion, Piece, Prompt, WritesOnly
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.door import AlwaysOpen
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings

POLICY: dict[str, Any] = {
    "name": "test",
    "stream_window": 1,
    "guards": [
        {"kind": "length", "input_characters": 500, "output_characters": 500, "tokens": 100},
        {
            "kind": "patterns",
            "name": "requests",
            "stages": ["input"],
            "rules": [{"name": "weapons", "phrases": ["make a bomb"]}],
        },
        {
            "kind": "patterns",
            "name": "answers",
            "stages": ["output"],
            "rules": [{"name": "secrets", "phrases": ["the secret code is {1,2} now"]}],
        },
    ],
}
SECRET_ANSWER = "Well, listen: the secret code is 1234 now, and more."
TOOLS: list[Any] = [{"type": "function", "function": {"name": "fetch", "parameters": {"type": "object"}}}]


@dataclass
class MemoryAudit:
    """Rows, durable at once or when the test says so (`held`), or failing."""

    held: bool = False
    error: Exception | None = None
    closed: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[Future[Any]] = field(default_factory=list)

    def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[Any]:
        future: Future[Any] = Future()
        if self.error is not None:
            future.set_exception(self.error)
            return future
        self.rows.append({"kind": kind, "actor": actor, "subject": subject, **details})
        if self.held:
            self.waiting.append(future)
        else:
            future.set_result(len(self.rows))
        return future

    def close(self) -> None:
        self.closed = True

    def commit(self) -> None:
        for future in self.waiting:
            future.set_result(None)
        self.waiting.clear()


class Scripted(WritesOnly):
    """A model that answers `text` in pieces, calling `before` before each; it notes prompts and cancellations."""

    def __init__(
        self, text: str = "Hello there, friend.", size: int = 3, before: Callable[[], Any] | None = None
    ) -> None:
        self.text, self._size, self._before = text, size, before
        self.prompts: list[Prompt] = []
        self.closed_early = False

    async def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        try:
            if self._before:
                await self._before()
        except BaseException:
            self.closed_early = True
            raise
        return Completion(self.text, 7, 5)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.prompts.append(prompt)
        try:
            for start in range(0, len(self.text), self._size):
                if self._before:
                    await self._before()
                yield Piece(self.text[start : start + self._size], 7, start // self._size + 1)
            yield Piece("", 7, 5, "stop")
        except BaseException:
            self.closed_early = True
            raise


@dataclass
class Desk:
    """A gateway and what a test needs around it."""

    app: FastAPI
    backend: Any
    audit: MemoryAudit
    secret: str

    @property
    def http(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://gateway", headers=headers)

    @property
    def openai(self) -> AsyncOpenAI:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app))
        return AsyncOpenAI(api_key=self.secret, base_url="http://gateway/v1", http_client=client, max_retries=0)


class Calling(Scripted):
    """Answers `text` and wants to make `call`."""

    def __init__(self, text: str = "Let me see.", **arguments: Any) -> None:
        super().__init__(text)
        self.call = ToolCall("call_1", "fetch", json.dumps(arguments))

    async def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        return Completion(self.text, 7, 5, "tool_calls", (self.call,))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.prompts.append(prompt)
        yield Piece(self.text, 7, 5)
        yield Piece("", 7, 5, "tool_calls", (self.call,))


def make_desk(
    backend: Backend | None = None,
    policy: dict[str, Any] | None = None,
    counters: Any = None,
    holds: Any = None,
    sandboxes: Any = None,
    recorder: Any = None,
    **settings: Any,
) -> Desk:
    key, secret = new_key("tester")
    audit, behind = MemoryAudit(), backend or Scripted()
    values = GatewaySettings(model="m", policy=Policy.parse(policy or POLICY), **settings)
    room = ControlRoom(audit, AlwaysOpen([key]), counters, holds, recorder=recorder, sandboxes=sandboxes)
    return Desk(Gateway(values, behind, room).app(), behind, audit, secret)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def chat_scope(desk: Desk) -> dict[str, Any]:
    """An ASGI request to the desk's chat endpoint."""
    headers = [(b"authorization", f"Bearer {desk.secret}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    return {**scope, "http_version": "1.1", "raw_path": b"", "scheme": "http", "root_path": ""}
