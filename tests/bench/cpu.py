"""CPU seconds of all that a side runs."""

from __future__ import annotations

import psutil


def tree_cpu_s() -> float:
    """CPU seconds that this process and all below it have used."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
