"""The filtering proxy of one sandbox: a unix socket outside, which is bound into the sandbox, and a thread behind it.

A sandbox's network namespace is empty; this socket is all that leads out of it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from raysafe.control.sandbox.proxy.addresses import Resolve, own_addresses, resolve
from raysafe.control.sandbox.proxy.connection import Connection
from raysafe.control.sandbox.proxy.http_head import MOST_BYTES
from raysafe.control.sandbox.proxy.rules import NetworkRules
from raysafe.control.sandbox.proxy.traffic import NetworkRequest, Traffic

_BACKLOG, _ENDS_S = 64, 5.0


class Proxy:
    """Use as a context manager: it listens from the start of the block to its end."""

    def __init__(self, rules: NetworkRules, resolve: Resolve = resolve) -> None:
        """resolve: the addresses of a name; the system's by default."""
        self.traffic = Traffic(rules)
        self._resolve, self._own = resolve, own_addresses()
        self._folder: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._taken = 0
        self._connections: dict[asyncio.Task[None], socket.socket] = {}

    @property
    def path(self) -> Path:
        """The socket's path outside the sandbox."""
        if self._folder is None:
            raise RuntimeError("the proxy doesn't listen yet")
        return self._folder / "proxy"

    def requests(self) -> tuple[NetworkRequest, ...]:
        """What was asked so far, in its order."""
        return tuple(replace(request) for request in self.traffic.requests)

    def start(self) -> None:
        """Listen; raises OSError."""
        self._folder = Path(tempfile.mkdtemp(prefix="raysafe-proxy-"))
        if os.geteuid() == 0:
            # who binds it into the sandbox may be another user, who knows its name
            self._folder.chmod(0o711)
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="sandbox-proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), loop).result()
        # the folder keeps others out; within the sandbox its user is another
        self.path.chmod(0o666)

    def stop(self) -> None:
        """End all connections and the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result(_ENDS_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_ENDS_S)
        loop.close()
        self._loop = self._thread = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self) -> None:
        listening = self._listening = socket.socket(socket.AF_UNIX)
        listening.setblocking(False)
        listening.bind(str(self.path))
        listening.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(listening, self._accept)

    def _accept(self) -> None:
        """Take a connection. What is over the limits isn't taken at all: it waits, or is refused, at no cost here."""
        with suppress(BlockingIOError, ConnectionAbortedError):
            connected, _ = self._listening.accept()
            connected.setblocking(False)
            task = asyncio.create_task(self._serve(connected))
            self._connections[task] = connected
            task.add_done_callback(self._ended)
            self._taken += 1
        if self._taken >= self.traffic.rules.requests:
            self._stop_listening()
        elif len(self._connections) >= self.traffic.rules.connections:
            asyncio.get_running_loop().remove_reader(self._listening)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # one that was cancelled before it began has closed nothing
        self._connections.pop(task).close()
        if self._listening.fileno() != -1:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _stop_listening(self) -> None:
        if self._listening.fileno() != -1:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()

    async def _serve(self, connected: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connected, limit=MOST_BYTES)
        await Connection(reader, writer, self.traffic, self._resolve, self._own).serve()

    async def _end(self) -> None:
        self._stop_listening()
        under_way = list(self._connections)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
