"""CPU seconds of all that a side runs."""

from __future__ import annotations

import psutil


def tree_cpu_s(pid: int | None = None) -> float:
    """CPU seconds that a process, this one by default, and all below it have used."""
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
