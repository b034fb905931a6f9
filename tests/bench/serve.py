"""What guards and audit log cost at the gateway: empty pipeline against ten guards and durable audit, in one run.

    python -m tests.bench.serve [--requests 1000] [--json out.json]
    python -m tests.bench.serve --model FOLDER [--requests 20]

One server process holds both gateways over a model that answers at once, so that nothing else is measured. Requests of
1,000 characters in and 1,000 out go to the two in turns, over one connection each. CPU is the server process's own,
by its kernel clock. The guards are the default policy's, its rate limits raised or they would end the run, and four
more. With --model both gateways stand before that language model, and the time to the first words is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TEXT = ("The weather in the mountains can change quickly, so bring a warm coat, good boots and some water. " * 11)[
    :1000
]
BLOCK = 20
TARGET_MS = 1.5


class NoAudit:
    """The baseline's: nothing is written."""

    def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(None)
        return future

    def close(self) -> None:
        return None


def ten_guards() -> dict[str, Any]:
    """The default policy with four guards more, none of which stops a text of the benchmark."""
    from raysafe.guards.policy import default_policy

    values = default_policy().model_dump(mode="json")
    for guard in values["guards"]:
        if guard["kind"] == "rate":
            guard |= {"requests_per_minute": 1e9, "characters_per_minute": 1e12}
    values["guards"] += [{"kind": kind} for kind in ("pii", "secrets", "canary", "capabilities")]
    return values


def backend(folder: str | None) -> Any:
    """A language model, or one that answers at once."""
    from raysafe.serving.backend import NullBackend

    if folder is None:
        return NullBackend(TEXT)
    from raysafe.serving.local import load_backend
    from raysafe.serving.replicas import ReplicaSettings

    return load_backend(ReplicaSettings(folder=folder))


def serve(pipe: Connection, folder: str, folder_of_model: str | None) -> None:
    """Both gateways on ports of their own; sends (baseline port, guarded port, secret)."""
    import uvicorn

    from raysafe.control.keys import new_key
    from raysafe.guards.policy import Policy
    from raysafe.records.audit import AuditLog
    from raysafe.serving.control_room import ControlRoom
    from raysafe.serving.door import AlwaysOpen
    from raysafe.serving.gateway import Gateway
    from raysafe.serving.settings import GatewaySettings

    key, secret = new_key("bench")
    model, empty, guarded = backend(folder_of_model), Policy(name="empty", guards=()), Policy.parse(ten_guards())
    audit = AuditLog(f"{folder}/audit", writer="bench")
    apps = [
        Gateway(GatewaySettings(model="null", policy=empty), model, ControlRoom(NoAudit(), AlwaysOpen([key]))).app(),
        Gateway(GatewaySettings(model="null", policy=guarded), model, ControlRoom(audit, AlwaysOpen([key]))).app(),
    ]

    async def both() -> None:
        servers = [uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False)) for app in apps]
        tasks = [asyncio.create_task(server.serve()) for server in servers]
        while not all(server.started for server in servers):
            await asyncio.sleep(0.01)
        ports = [server.servers[0].sockets[0].getsockname()[1] for server in servers]
        pipe.send((*ports, secret))
        await asyncio.gather(*tasks)

    asyncio.run(both())


class Side:
    """One gateway as its client sees it."""

    def __init__(self, port: int, secret: str, server: int, stream: bool, **options: Any) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port)
        self._headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        self._options = {"model": "null", "stream": stream, **options}
        self._count = 0
        self._clock = (~server << 3) | 2  # the CPU clock of another process, see clock_getcpuclockid(3)
        self.latencies_ms: list[float] = []
        self.cpu_ms = 0.0

    def _body(self) -> str:
        """A request of 1,000 characters, each time others: nothing is found in a cache that is in no service's."""
        self._count += 1
        text = f"{self._count:06d} {TEXT[7:]}"
        return json.dumps({**self._options, "messages": [{"role": "user", "content": text}]})

    def first_words(self) -> float:
        """Seconds to the first event of a streamed answer with text in it; the rest is read and dropped."""
        started = time.perf_counter()
        self._http.request("POST", "/v1/chat/completions", self._body(), self._headers)
        answer = self._http.getresponse()
        while b'"content"' not in (line := answer.readline()):
            if not line:
                raise SystemExit("the stream ended without a word")
        elapsed_s = time.perf_counter() - started
        answer.read()
        return elapsed_s

    def run(self, requests: int, count: bool = True) -> None:
        cpu_ns = time.clock_gettime_ns(self._clock)
        for _ in range(requests):
            started = time.perf_counter()
            self._http.request("POST", "/v1/chat/completions", self._body(), self._headers)
            answer = self._http.getresponse()
            body = answer.read()
            elapsed_ms = (time.perf_counter() - started) * 1000
            if answer.status != 200 or b"content_filter" in body:
                raise SystemExit(f"status {answer.status}: {body[:200]!r}")
            if count:
                self.latencies_ms.append(elapsed_ms)
        if count:
            self.cpu_ms += (time.clock_gettime_ns(self._clock) - cpu_ns) / 1e6

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.latencies_ms)
        return {
            "p50_ms": statistics.median(ordered),
            "p99_ms": ordered[int(len(ordered) * 0.99)],
            "cpu_ms": self.cpu_ms / len(ordered),
        }


def measure(requests: int, stream: bool, ports: tuple[int, int], secret: str, server: int) -> dict[str, Any]:
    """Figures of both sides and what the second adds; blocks of the two sides take turns."""
    empty, guarded = (Side(port, secret, server, stream) for port in ports)
    for side in (empty, guarded):
        side.run(50, count=False)
    for _ in range(max(1, requests // BLOCK)):
        empty.run(BLOCK)
        guarded.run(BLOCK)
    sides = {"empty": empty.figures(), "guarded": guarded.figures()}
    added = {name: sides["guarded"][name] - sides["empty"][name] for name in sides["empty"]}
    # 1,000 characters in and 1,000 out pass the guards
    added["cpu_ms_per_1000_characters"] = added["cpu_ms"] / 2
    return {"requests": len(empty.latencies_ms), **sides, "added": added}


def first_words(requests: int, ports: tuple[int, int], secret: str, server: int) -> dict[str, float]:
    """Median seconds to the first words at both gateways, which take turns."""
    sides = [Side(port, secret, server, True, max_tokens=8, temperature=0) for port in ports]
    for side in sides:
        side.first_words()
    times_s = [[side.first_words() for side in sides] for _ in range(requests)]
    empty_s, guarded_s = (statistics.median(side) for side in zip(*times_s, strict=True))
    return {"requests": requests, "empty_s": empty_s, "guarded_s": guarded_s, "ratio": guarded_s / empty_s}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1000, help="requests to each side, in each mode")
    parser.add_argument("--model", help="folder of a language model: compare the time to its first words")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, folder, options.model), daemon=True
        )
        server.start()
        try:
            if not ours.poll(300):
                raise SystemExit("the server didn't start within 300 s")
            empty_port, guarded_port, secret = ours.recv()
            assert server.pid is not None
            ports = (empty_port, guarded_port)
            if options.model:
                words = first_words(min(options.requests, 20), ports, secret, server.pid)
                print("first words: " + "  ".join(f"{name} {value:.3f}" for name, value in words.items()))
                if options.json:
                    options.json.write_text(json.dumps(words, indent=2))
                return 0
            results = {
                mode: measure(options.requests, mode == "stream", ports, secret, server.pid)
                for mode in ("whole", "stream")
            }
        finally:
            server.terminate()
            server.join(10)
    for mode, result in results.items():
        print(f"{mode}: {result['requests']} requests to each side, load {os.getloadavg()[0]:.1f}")
        for name in ("empty", "guarded", "added"):
            shown = "  ".join(f"{key} {value:7.3f}" for key, value in result[name].items())
            print(f"  {name:8} {shown}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    met = True
    for mode, result in results.items():
        added = result["added"]
        here = added["p50_ms"] <= TARGET_MS and added["cpu_ms_per_1000_characters"] <= TARGET_MS
        print(f"{mode}: <= {TARGET_MS} ms added to p50 and to CPU per 1,000 characters: {'met' if here else 'missed'}")
        met = met and here
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
