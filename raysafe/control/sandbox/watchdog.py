"""Bounds on a sandbox where control groups can't be had: its processes are counted and summed, some 50 times a second.

It can be outrun for as long as a look takes; `raysafe doctor` says where this is all there is.
"""

from __future__ import annotations

import os
from typing import Literal

import psutil

from raysafe.control.sandbox.policy import Policy

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Watchdog:
    """The same questions as cgroups.Group answers, answered by looking."""

    kind: Literal["watchdog"] = "watchdog"

    def __init__(self, policy: Policy, keeper: int = 1) -> None:
        self._policy, self._keeper = policy, keeper
        self._first: psutil.Process | None = None
        self._home: int | None = None
        self._cpu: dict[tuple[int, float], float] = {}
        self._peak = 0
        self._hit: Literal["memory", "pids"] | None = None

    def add(self, pid: int) -> None:
        self._first = psutil.Process(pid)

    def watch_folder(self, home: int) -> None:
        """Count the files behind this descriptor as memory too, which they are."""
        self._home = home

    def cpu_seconds(self) -> float:
        return sum(self._cpu.values())

    def memory_peak(self) -> int:
        return self._peak

    def limit_hit(self) -> Literal["memory", "pids"] | None:
        """What is over its bound now, or was at an earlier look."""
        if self._hit is None:
            memory, tasks = self._look()
            self._peak = max(self._peak, memory)
            if memory > self._policy.memory_bytes:
                self._hit = "memory"
            elif tasks > self._policy.pids + self._keeper:
                self._hit = "pids"
        return self._hit

    def remove(self) -> None:
        """Nothing is left behind."""

    def _look(self) -> tuple[int, int]:
        """Bytes and tasks now. Processor time is kept by process, so that of those that ended isn't lost."""
        if self._first is None:
            return 0, 0
        memory, tasks = self._files(), 0
        try:
            everyone = [self._first, *self._first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return memory, 0
        for process in everyone:
            try:
                with process.oneshot():
                    times, rss, threads = process.cpu_times(), process.memory_info().rss, process.num_threads()
                    self._cpu[process.pid, process.create_time()] = times.user + times.system
            except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                continue
            memory, tasks = memory + rss, tasks + threads
        return memory, tasks

    def _files(self) -> int:
        if self._home is None:
            return 0
        space = os.fstatvfs(self._home)
        return (space.f_blocks - space.f_bfree) * space.f_frsize
