"""What counting costs: reservations per second and their latency, from one process and from three on one store.

    python -m tests.bench.budgets [--store URL] [--seconds 3] [--json out.json]

Each reservation draws on three budgets at once (a key's requests, a tenant's tokens, a model's seconds). By default the
store is a SQLite file in a new folder of the working directory, whose disk is what is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections import deque
from typing import Any


def draw(url: str, in_flight: int, seconds: float, start: Any, results: Any) -> None:
    """Keep `in_flight` reservations under way; puts the latencies in milliseconds and the time taken."""
    from raysafe.control.budgets import Budget, Budgets, Resource

    limits = [
        Budget(subject="key", name="k", resource="requests", window="total", limit=1e12),
        Budget(subject="tenant", name="t", resource="tokens", window="minute", limit=1e12),
        Budget(subject="model", name="m", resource="model_seconds", window="day", limit=1e9),
    ]
    amounts: dict[Resource, float] = {"requests": 1, "tokens": 100, "model_seconds": 0.5}
    with Budgets(url) as budgets:
        budgets.reserve(limits, amounts).result()
        start.wait()
        begun, waiting, latencies_ms = time.perf_counter(), deque[Any](), []
        while time.perf_counter() - begun < seconds:
            waiting.append((time.perf_counter(), budgets.reserve(limits, amounts)))
            if len(waiting) >= in_flight:
                asked, future = waiting.popleft()
                future.result()
                latencies_ms.append(1000 * (time.perf_counter() - asked))
        results.put((latencies_ms, time.perf_counter() - begun))


def measure(url: str, processes: int, in_flight: int, seconds: float) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.Queue()
    arguments = (url, in_flight, seconds, start, results)
    workers = [context.Process(target=draw, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    latencies_ms = sorted(value for values, _ in found for value in values)
    return {
        "processes": processes,
        "in_flight": in_flight,
        "per_second": sum(len(values) / taken for values, taken in found),
        "p50_ms": statistics.median(latencies_ms),
        "p99_ms": latencies_ms[int(0.99 * (len(latencies_ms) - 1))],
        "max_ms": latencies_ms[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json")
    options = parser.parse_args()
    from raysafe.records.store import open_store

    with tempfile.TemporaryDirectory(dir=".") as folder:
        url = options.store or f"sqlite:///{folder}/raysafe.db"
        open_store(url).close()
        rows = [measure(url, *case, options.seconds) for case in ((1, 1), (1, 100), (3, 1), (3, 100))]
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
