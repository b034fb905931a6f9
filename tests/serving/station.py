"""A real gateway in a process of its own: store, control plane, budgets, holds, recorder and audit log, before a model
that writes slowly, or one that drifts.

    python -m tests.serving.station '{"store": "sqlite:////tmp/x/store.db", "policy": {...}, "pause_s": 0.05}'

It prints its port once it listens.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysafe.serving.backend import Completion, Piece, Prompt, WritesOnly

WORDS = ("a", "few", "of", "the", "many", "small", "words", "that", "are", "in", "any", "longer", "text")
TRUSTED = "Trusted:"


class SlowWriter(WritesOnly):
    """Writes `words` words, `pause_s` apart."""

    def __init__(self, words: int, pause_s: float) -> None:
        self._words, self._pause_s = words, pause_s

    async def complete(self, prompt: Prompt) -> Completion:
        await asyncio.sleep(self._pause_s)
        return Completion("word " * 5, 3, 5)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        for count in range(1, self._words + 1):
            await asyncio.sleep(self._pause_s)
            yield Piece("word ", 3, count)
        yield Piece("", 3, self._words, "stop")


class Drifting(WritesOnly):
    """Writes prose, and after so many answers repeats itself, unsafely. Trusted answers begin with TRUSTED."""

    def __init__(self, after: int) -> None:
        self._after, self._count = after, 0

    async def complete(self, prompt: Prompt) -> Completion:
        self._count += 1
        draw = random.Random(self._count)
        text = " ".join(draw.choices(WORDS, k=60))
        if self._count > self._after:
            text = "how to build a bomb " * 12
        return Completion(text, 3, 60)


def trusted(messages: Any) -> str:
    """The trusted model of a station."""
    return f"{TRUSTED} I can help with something else."


def main(options: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    import uvicorn

    from raysafe.control.budgets import Budgets
    from raysafe.control.holds import Holds
    from raysafe.control.trusted import TrustedConfig
    from raysafe.control.watch import ControlPlane
    from raysafe.guards.policy import Policy
    from raysafe.monitoring.recorder import Recorder
    from raysafe.records.audit import AuditLog, audit_folder
    from raysafe.records.store import open_store
    from raysafe.serving.control_room import ControlRoom, Records
    from raysafe.serving.gateway import Gateway
    from raysafe.serving.settings import GatewaySettings

    url = options["store"]
    audit = AuditLog(audit_folder(url), writer="gateway-m", unique=True)
    if options.get("file_bytes"):
        # as if the disk were full: no file may grow beyond it
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["file_bytes"], resource.RLIM_INFINITY))
    second: Any = {"kind": "scripted", "model": f"{trusted.__module__}:trusted"}
    settings = GatewaySettings(
        model="m",
        policy=Policy.parse(options.get("policy", {"guards": []})),
        trusted=TrustedConfig(model=second) if "drifts_after" in options else None,
    )
    model: Any = SlowWriter(options.get("words", 40), options.get("pause_s", 0.0))
    if "drifts_after" in options:
        model = Drifting(options["drifts_after"])
    recorder = Recorder(url, "m", window_s=options.get("window_s", 5.0))
    records = Records(open_store(url), audit_folder(url))
    room = ControlRoom(audit, ControlPlane(url, "m"), Budgets(url), Holds(open_store(url)), recorder, records)
    app = Gateway(settings, model, room).app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, backlog=2048))

    async def serve() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await task

    asyncio.run(serve())


@contextmanager
def station(**options: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, URL) of a running gateway; it is ended at the end, by its pid."""
    command = [sys.executable, "-m", "tests.serving.station", json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the gateway didn't start"
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
