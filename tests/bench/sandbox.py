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

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.opening import open_sandbox
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.pool import Pool

CODE = "print(6 * 7)"


def timed(runs: int, work: Callable[[], str], between: Callable[[], None] = lambda: None) -> list[float]:
    """Milliseconds of each run, sorted."""
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
    parser.add_argument("--backend", default="bubblewrap")
    options = parser.parse_args()
    policy = Policy(backend=options.backend)

    def plain() -> str:
        return subprocess.run([sys.executable, "-I", "-c", CODE], capture_output=True, text=True).stdout

    def cold() -> str:
        sandbox = open_sandbox(policy)
        try:
            return sandbox.run(Job.of(CODE)).stdout
        finally:
            sandbox.close()

    with Pool(policy, 2) as pool:

        def filled() -> None:
            while pool.waiting < 2:
                time.sleep(0.005)

        found = {
            "a plain subprocess": timed(options.runs, plain),
            "a sandbox made for it": timed(options.runs, cold),
            "a sandbox that waited": timed(options.runs, lambda: pool.run(CODE).stdout, filled),
        }
    base = statistics.median(found["a plain subprocess"])
    print(f"{options.backend}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {options.runs} runs each")
    print(f"{'':24}{'p50':>9}{'p90':>9}{'least':>9}   of a subprocess's p50")
    for name, times in found.items():
        middle, high = statistics.median(times), times[int(0.9 * len(times))]
        print(f"{name:24}{middle:6.1f} ms{high:6.1f} ms{times[0]:6.1f} ms   {middle / base:.2f}")


if __name__ == "__main__":
    main()
