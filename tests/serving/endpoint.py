"""A model's endpoint on loopback, which answers what a test scripts and sees who goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from raysafe.guards.guard import Message, Tool
from raysafe.serving.backend import (
    Piece,
    Prompt,
)
from raysafe.serving.upstream import UpstreamBackend, UpstreamSettings

WEATHER = Tool("weather", json.dumps({"name": "weather", "parameters": {"type": "object"}}))
HELLO = Prompt((Message("user", "héllo"),), 9, 0.5, 0.9, ("\n",), 3)
TOOLS = Prompt((Message("user", "hello"),), tools=(WEATHER,))
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Server:
    """Answers each request by `script`; keeps what was asked."""

    def __init__(self, script: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._script = script
        self.heads: list[str] = []
        self.bodies: list[Any] = []
        self.gone = asyncio.Event()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                size = int(self.heads[-1].lower().partition("content-length:")[2].split("\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(size)))
                watch = asyncio.create_task(reader.read(1))
                script = asyncio.create_task(self._script(writer))  # type: ignore[arg-type]
                await asyncio.wait({watch, script}, return_when=asyncio.FIRST_COMPLETED)
                if watch.done():
                    script.cancel()
                    self.gone.set()
                    return
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
                await script
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.gone.set()
        finally:
            writer.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def upstream(script: Any, **settings: Any) -> AsyncIterator[tuple[UpstreamBackend, Server]]:
    server = Server(script)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    given = {"base_url": f"http://127.0.0.1:{port}/v1", "model": "big", **settings}
    backend = UpstreamBackend(UpstreamSettings.parse(given))
    try:
        yield backend, server
    finally:
        await backend.close()
        listening.close()
        await server.close()


def reply(
    content: bytes | str | dict[str, Any], status: int = 200, kind: str = "application/json", **headers: str
) -> Any:
    content = json.dumps(content) if isinstance(content, dict) else content
    content = content.encode() if isinstance(content, str) else content
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()

    return script


def streamed(*events: Any, wait: bool = False, end: bytes = b"0\r\n\r\n") -> Any:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in events:
            data = event if isinstance(event, bytes) else f"data: {as_text(event)}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        if wait:
            await asyncio.Event().wait()
        writer.write(end)
        await writer.drain()

    return script


def as_text(event: Any) -> str:
    return event if isinstance(event, str) else json.dumps(event)


def answer(finish: str | None = "stop", usage: Any = USAGE, model: str = "big", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def delta(finish: str | None = None, **part: Any) -> dict[str, Any]:
    return {"model": "big", "choices": [{"index": 0, "finish_reason": finish, "delta": part}], "usage": None}


def call(name: str | None = "weather", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


async def collect(backend: UpstreamBackend, prompt: Prompt) -> list[Piece]:
    return [piece async for piece in backend.stream(prompt)]
