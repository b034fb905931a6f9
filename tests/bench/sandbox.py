"""How long a small program takes in a sandbox, from the call to its result: made for it, or waiting for it, beside a
plain subprocess.

    python -m tests.bench.sandbox [--runs 50] [--backend gvisor]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.opening import open_sandbox
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.pool import Pool

CODE = "print(6 * 7)"
PLAIN, COLD, WARM = "a plain subprocess", "a sandbox made for it", "a sandbox that waited"


def measure(runs: int, policy: Policy) -> dict[str, list[float]]:
    """Milliseconds of each run, sorted, by the way in which the program was run."""
    with Pool(policy, 2) as pool:

        def cold() -> str:
            with closing(open_sandbox(policy)) as sandbox:
                return sandbox.run(Job.of(CODE)).stdout

        def filled() -> None:
            while pool.waiting < 2:
                time.sleep(0.005)

        return {
            PLAIN: _timed(runs, _plain),
            COLD: _timed(runs, cold),
            WARM: _timed(runs, lambda: pool.run(CODE).stdout, filled),
        }


def table(found: dict[str, list[float]]) -> str:
    """The times as a Markdown table."""
    base = statistics.median(found[PLAIN])
    lines = ["| a program that prints a line, in | p50 | p90 | of a subprocess's p50 |", "|---|---|---|---|"]
    for name, times in found.items():
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.0f} ms | {times[int(0.9 * len(times))]:.0f} ms | {middle / base:.1f} |")
    return "\n".join(lines)


def _plain() -> str:
    return subprocess.run([sys.executable, "-I", "-c", CODE], capture_output=True, text=True, check=True).stdout


def _timed(runs: int, work: Callable[[], str], between: Callable[[], None] = lambda: None) -> list[float]:
    found = []
    for _ in range(runs):
        between()
        began = time.perf_counter()
        said = work()
        found.append((time.perf_counter() - began) * 1000)
        assert said == "42\n", said
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--backend", choices=("bubblewrap", "gvisor"), default="bubblewrap")
    options = parser.parse_args()
    found = measure(options.runs, Policy(backend=options.backend))
    print(f"{options.backend}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {options.runs} runs of each")
    print(table(found))


if __name__ == "__main__":
    main()
