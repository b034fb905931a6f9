"""What the machine and this process use now: CPU, memory, and the GPUs of the machine through NVML where it has any."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

CONTROL_DEVICE = Path("/dev/nvidiactl")


class Resources:
    """Measured between two calls; a process makes one and keeps it."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._gpus = Gpus()
        self._cpu_s, self._at = self._used(), time.monotonic()
        psutil.cpu_percent(None)

    def measure(self) -> Iterator[tuple[str, float]]:
        """`resources.cpu` is this process's, in CPUs; `machine_cpu` and `machine_memory` are shares, 0 to 1."""
        used, now = self._used(), time.monotonic()
        if now > self._at:
            yield "resources.cpu", (used - self._cpu_s) / (now - self._at)
        self._cpu_s, self._at = used, now
        yield "resources.rss_bytes", float(self._process.memory_info().rss)
        yield "resources.machine_cpu", psutil.cpu_percent(None) / 100
        yield "resources.machine_memory", psutil.virtual_memory().percent / 100
        yield from self._gpus.measure()

    def _used(self) -> float:
        times = os.times()
        return times.user + times.system


class Gpus:
    """The machine's NVIDIA GPUs; none where there is no driver."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        if not CONTROL_DEVICE.exists():
            return
        # Ray brings NVIDIA's own binding along
        from ray._private.thirdparty import pynvml

        self._nvml: Any = pynvml
        pynvml.nvmlInit()
        self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]

    def measure(self) -> Iterator[tuple[str, float]]:
        for handle in self._handles:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            yield "resources.gpu_memory", memory.used / memory.total
            yield "resources.gpu_busy", self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
