"""What each way in to Ray Serve costs: one gateway over a model that answers at once, behind each, in one run.

    python -m tests.bench.ways_in [--seconds 4] [--rounds 2] [--ways uvicorn,serve,haproxy] [--guards] [--json out.json]

Each way has a Ray of its own on loopback, started, measured and stopped in turn; a round goes through all of them, so
that a machine whose load changes shows. Latency is that of one keep-alive connection, throughput that of 16; CPU is
that of all server processes (HAProxy, Serve's actors, Ray's daemons) a request at 16 connections, less what they use
idle. `floor` is plain uvicorn. Whole answers and streams of 200 characters in 10 pieces.

With --guards each way is measured once more with the ten guards and the durable audit log of tests.bench.serve, and the
throughput of the two is compared: all share this machine's cores, clients too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.cpu import tree_cpu_s

TEXT = "The weather in the mountains can change quickly, so bring a coat. "
ANSWER = (TEXT * 4)[:200]
CONNECTIONS = 16
GUARDS = "+guards"
WAYS = {
    "uvicorn": "floor: one uvicorn process, no Ray",
    "serve": "Serve's own proxy",
    "serve-throughput": "Serve's own proxy, throughput-optimised",
    "direct": "the replica's own port (direct ingress)",
    "direct-throughput": "the replica's own port, throughput-optimised",
    "haproxy": "HAProxy before the replica's own port",
    "haproxy-throughput": "HAProxy, throughput-optimised",
    "haproxy-one-loop": "HAProxy, the gateway on Serve's own loop: what `raysafe serve` does",
}


def build_app(secret_digest: str, guarded: bool) -> Any:
    """The gateway, in whatever process it is called; guarded: with ten guards and an audit log of its own."""
    import tempfile

    from raysafe.control.keys import Key
    from raysafe.guards.policy import Policy
    from raysafe.records.audit import AuditLog
    from raysafe.serving.backend import NullBackend
    from raysafe.serving.control_room import ControlRoom
    from raysafe.serving.door import AlwaysOpen
    from raysafe.serving.gateway import Gateway
    from raysafe.serving.settings import GatewaySettings
    from tests.bench.serve import NoAudit, ten_guards

    policy = Policy.parse(ten_guards()) if guarded else Policy(name="empty", guards=())
    audit = AuditLog(f"{tempfile.mkdtemp()}/audit", writer="bench") if guarded else NoAudit()
    plane = AlwaysOpen([Key(id="bench", sha256=secret_digest)])
    return Gateway(GatewaySettings(model="null", policy=policy), NullBackend(ANSWER), ControlRoom(audit, plane)).app()


def host(way: str, digest: str) -> None:
    """Serve the gateway by one way in until stdin ends; prints the port."""
    way, guarded, _ = way.partition(GUARDS)
    if way == "uvicorn":
        _host_uvicorn(digest, bool(guarded))
        return
    environment = {}
    if "throughput" in way:
        environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
    direct_port = _free_port()
    if way.startswith("direct"):
        environment |= {
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(direct_port),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(direct_port + 10),
        }
    gateway: dict[str, Any] = {"num_cpus": 0}
    if way.startswith("haproxy"):
        from raysafe.serving.ingress import GATEWAY_ENVIRONMENT, choose

        environment |= choose("haproxy", 120.0, fallback_port=_free_port()).environment
        if way == "haproxy-one-loop":
            gateway["runtime_env"] = {"env_vars": GATEWAY_ENVIRONMENT}
    os.environ.update(environment)
    import ray
    from ray import serve

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    port = _free_port()
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config=quiet)
    front = serve.deployment(serve.ingress(lambda: build_app(digest, bool(guarded)))())
    serve.run(front.options(name="gateway", max_ongoing_requests=256, ray_actor_options=gateway).bind(), name="bench")
    print(json.dumps({"port": direct_port if way.startswith("direct") else port}), flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


def _host_uvicorn(digest: str, guarded: bool) -> None:
    import uvicorn

    port = _free_port()
    config = uvicorn.Config(build_app(digest, guarded), port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)

    async def run() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(json.dumps({"port": port}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await task

    asyncio.run(run())


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """One keep-alive connection that asks the same again and again."""

    def __init__(self, port: int, secret: str, stream: bool) -> None:
        message = {"role": "user", "content": TEXT}
        body = json.dumps({"model": "null", "messages": [message], "stream": stream}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._port, self._request = port, head.encode() + body
        self.latencies_ms: list[float] = []
        self.failed = 0
        """Answers that are no 200, and connections that were closed on a request."""

    async def run(self, until: float) -> None:
        while time.perf_counter() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while (started := time.perf_counter()) < until:
                    writer.write(self._request)
                    ok = await _answer(reader)
                    self.latencies_ms.append((time.perf_counter() - started) * 1000)
                    self.failed += not ok
            except (asyncio.IncompleteReadError, ConnectionError):
                self.failed += 1
            finally:
                writer.close()


async def _answer(reader: asyncio.StreamReader) -> bool:
    """Read one response to its end; whether it was a 200."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        while (size := int(await reader.readline(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        length = head.split(b"content-length: ", 1)[1].split(b"\r", 1)[0]
        await reader.readexactly(int(length))
    return head.startswith(b"http/1.1 200")


async def _clients(port: int, secret: str, stream: bool, count: int, seconds: float) -> tuple[list[float], int, float]:
    """(latencies in ms, failures, seconds) of `count` connections at once."""
    started = time.perf_counter()
    clients = [Client(port, secret, stream) for _ in range(count)]
    await asyncio.gather(*(client.run(started + seconds) for client in clients))
    found = [ms for client in clients for ms in client.latencies_ms]
    return found, sum(client.failed for client in clients), time.perf_counter() - started


def measure(port: int, secret: str, pid: int, seconds: float) -> dict[str, Any]:
    """Latency, throughput and CPU of whole answers and streams."""
    asyncio.run(_clients(port, secret, False, 4, 1.0))
    before, started = tree_cpu_s(pid), time.perf_counter()
    time.sleep(2.0)
    idle = (tree_cpu_s(pid) - before) / (time.perf_counter() - started)
    result: dict[str, Any] = {"idle_cpu": idle}
    for mode in ("whole", "stream"):
        one, failed_one, _ = asyncio.run(_clients(port, secret, mode == "stream", 1, seconds))
        before = tree_cpu_s(pid)
        many, failed_many, took = asyncio.run(_clients(port, secret, mode == "stream", CONNECTIONS, seconds))
        cpu_s = tree_cpu_s(pid) - before - idle * took
        one.sort()
        result[mode] = {
            "p50_ms": statistics.median(one),
            "p99_ms": one[int(len(one) * 0.99)],
            "per_s": len(many) / took,
            "cpu_ms": cpu_s / len(many) * 1000,
            "failed": failed_one + failed_many,
        }
    return result


def one_way(way: str, seconds: float) -> dict[str, Any]:
    """Start one way in, measure it, stop it."""
    from raysafe.control.keys import new_key

    key, secret = new_key("bench")
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bench.ways_in", "--host", way, "--digest", key.sha256]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{"):
                return measure(json.loads(line)["port"], secret, process.pid, seconds)
        raise SystemExit(f"{way} didn't start")
    finally:
        process.stdin.close()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def best(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the round's that was least disturbed: the lowest, of requests a second the highest."""
    found: dict[str, Any] = {"idle_cpu": min(r["idle_cpu"] for r in rounds)}
    for mode in ("whole", "stream"):
        found[mode] = {
            name: (max if name in ("per_s", "failed") else min)(r[mode][name] for r in rounds)
            for name in rounds[0][mode]
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="times that each way is started and measured")
    parser.add_argument("--ways", default=",".join(WAYS), help="which, by name")
    parser.add_argument("--guards", action="store_true", help="each way with ten guards and audit log too")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--host", help=argparse.SUPPRESS)
    parser.add_argument("--digest", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        host(options.host, options.digest)
        return 0
    ways = options.ways.split(",")
    if options.guards:
        ways = [name for way in ways for name in (way, way + GUARDS)]
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in ways:
            rounds[way].append(measured := one_way(way, options.seconds))
            shown = "  ".join(
                f"{m}: " + " ".join(f"{k} {v:.2f}" for k, v in measured[m].items()) for m in ("whole", "stream")
            )
            print(f"round {number + 1} {way:23} load {os.getloadavg()[0]:.1f}  {shown}", flush=True)
    results = {way: best(found) for way, found in rounds.items()}
    if options.json:
        options.json.write_text(json.dumps({"best": results, "rounds": rounds}, indent=2))
    for mode in ("whole", "stream"):
        print(f"\n{mode:24} p50 ms  p99 ms  requests/s  CPU ms/request  failed")
        for way, result in results.items():
            row = result[mode]
            print(
                f"{way:24} {row['p50_ms']:6.2f}  {row['p99_ms']:6.2f}  {row['per_s']:10.0f}  {row['cpu_ms']:14.2f}"
                f"  {row['failed']:6d}"
            )
        for way in ways if options.guards else ():
            if way.endswith(GUARDS):
                ratio = results[way][mode]["per_s"] / results[way.removesuffix(GUARDS)][mode]["per_s"]
                print(f"{way}: {ratio:.2f} of the throughput without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
