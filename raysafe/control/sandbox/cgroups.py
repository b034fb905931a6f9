"""Control groups, version 1 or 2: the kernel's own bounds on memory, processors and processes of a whole sandbox."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Literal, NamedTuple

from raysafe.control.sandbox.policy import Policy

CONTROLLERS = ("memory", "pids", "cpu")
PERIOD_US = 100_000
REMOVE_ATTEMPTS, REMOVE_WAIT_S = 100, 0.01
PREFIX = "raysafe-"
_names = itertools.count()
_swept: set[int] = set()


class Places(NamedTuple):
    """Folders under which groups can be made: one a controller in version 1, the same for all in version 2."""

    version: Literal[1, 2]
    of: dict[str, Path]


def find_places(proc: Path = Path("/proc/self")) -> Places | None:
    """Where this process may make groups with a bound on memory, processes and processors; none: a watchdog's task."""
    mounted = _mounted(proc / "mounts")
    own = dict(_own(proc / "cgroup"))
    first = {name: _below(mounted[name], own.get(name, "/")) for name in (*CONTROLLERS, "cpuacct") if name in mounted}
    if all(name in first and os.access(first[name], os.W_OK) for name in CONTROLLERS):
        return Places(1, first)
    if "" not in mounted:
        return None
    here = _below(mounted[""], own.get("", "/"))
    while True:
        # a group that holds processes itself can't hand controllers on, so the nearest that does is an ancestor
        handed_on = here / "cgroup.subtree_control"
        given = set(handed_on.read_text().split()) if handed_on.exists() else set()
        if set(CONTROLLERS) <= given and os.access(here, os.W_OK) and os.access(here / "cgroup.procs", os.W_OK):
            return Places(2, dict.fromkeys(CONTROLLERS, here))
        if here == mounted[""]:
            return None
        here = here.parent


class Group:
    """The control group of one sandbox."""

    def __init__(self, places: Places, policy: Policy, keeper: int = 1) -> None:
        """Make it, with the policy's bounds. keeper: processes of it that aren't the job's. Raises OSError."""
        self.version = places.version
        _sweep(places)
        name = f"{PREFIX}{os.getpid()}-{next(_names)}"
        self._folders = {controller: place / name for controller, place in places.of.items()}
        quota = str(max(1000, int(policy.cpus * PERIOD_US)))
        try:
            for folder in dict.fromkeys(self._folders.values()):
                folder.mkdir()
            self._write("pids", "pids.max", policy.pids + keeper)
            if self.version == 1:
                self._write("memory", "memory.limit_in_bytes", policy.memory_bytes)
                if (self._folders["memory"] / "memory.memsw.limit_in_bytes").exists():
                    self._write("memory", "memory.memsw.limit_in_bytes", policy.memory_bytes)
                self._write("cpu", "cpu.cfs_period_us", PERIOD_US)
                self._write("cpu", "cpu.cfs_quota_us", quota)
            else:
                self._write("memory", "memory.max", policy.memory_bytes)
                if (self._folders["memory"] / "memory.swap.max").exists():
                    self._write("memory", "memory.swap.max", 0)
                self._write("memory", "memory.oom.group", 1)
                self._write("cpu", "cpu.max", f"{quota} {PERIOD_US}")
        except OSError:
            self.remove()
            raise

    @property
    def kind(self) -> Literal["cgroup v1", "cgroup v2"]:
        return "cgroup v1" if self.version == 1 else "cgroup v2"

    def add(self, pid: int) -> None:
        """Put a process, and all that it will start, into the group."""
        for folder in dict.fromkeys(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """The processes in it."""
        return [int(pid) for pid in self._read("pids", "cgroup.procs").split()]

    def cpu_seconds(self) -> float:
        if self.version == 2:
            return self._counter("cpu", "cpu.stat", "usage_usec") / 1e6
        if "cpuacct" in self._folders:
            return int(self._read("cpuacct", "cpuacct.usage")) / 1e9
        return 0.0

    def memory_peak(self) -> int:
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        return int(self._read("memory", name))

    def limit_hit(self) -> Literal["memory", "pids"] | None:
        """What the kernel refused, or killed for, since the group was made."""
        events = "memory.oom_control" if self.version == 1 else "memory.events"
        if self._counter("memory", events, "oom_kill"):
            return "memory"
        return "pids" if self._counter("pids", "pids.events", "max") else None

    def remove(self) -> None:
        """Give the group up once its processes are dead; the kernel may need a moment to see that they are."""
        for folder in dict.fromkeys(self._folders.values()):
            for _ in range(REMOVE_ATTEMPTS):
                if not folder.exists() or _removed(folder):
                    break
                time.sleep(REMOVE_WAIT_S)

    def _read(self, controller: str, file: str) -> str:
        return (self._folders[controller] / file).read_text()

    def _write(self, controller: str, file: str, value: object) -> None:
        (self._folders[controller] / file).write_text(str(value))

    def _counter(self, controller: str, file: str, name: str) -> int:
        for line in self._read(controller, file).splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
        return 0


def _sweep(places: Places) -> None:
    """Once in a process: give up the groups of processes that were killed before they could."""
    if os.getpid() in _swept:
        return
    _swept.add(os.getpid())
    for place in dict.fromkeys(places.of.values()):
        for folder in place.glob(f"{PREFIX}*-*"):
            owner = folder.name.removeprefix(PREFIX).partition("-")[0]
            if owner == str(os.getpid()) or not Path("/proc", owner).exists():
                _removed(folder)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _mounted(file: Path) -> dict[str, Path]:
    """Mount points by controller of version 1; under "" that of version 2."""
    found = {}
    for line in file.read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2":
            found[""] = Path(place)
        elif kind == "cgroup":
            found |= dict.fromkeys(options.split(","), Path(place))
    return found


def _own(file: Path) -> list[tuple[str, str]]:
    lines = [line.split(":", 2) for line in file.read_text().splitlines()]
    return [(controller, path) for _, controllers, path in lines for controller in controllers.split(",")]


def _below(mount: Path, path: str) -> Path:
    """A group's folder; the mount itself where a container shows another part of the tree than its paths speak of."""
    place = mount / path.lstrip("/")
    return place if place.is_dir() else mount
