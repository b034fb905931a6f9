"""Watching a job from outside: its output, its limits and its filter's listener, in one loop until it ends."""

from __future__ import annotations

import os
import selectors
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from raysafe.control.sandbox.inside import frames
from raysafe.control.sandbox.listener import breach
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Breach, Limit, SandboxUnavailable

if TYPE_CHECKING:
    from socket import socket

    from raysafe.control.sandbox.seccomp import Target

LOOK_EVERY_S = 0.02
CHUNK_BYTES = 1 << 16


class Bounds(Protocol):
    """What binds memory, processor time and processes of a sandbox."""

    @property
    def kind(self) -> Literal["cgroup v1", "cgroup v2", "watchdog"]: ...

    def add(self, pid: int) -> None: ...

    def cpu_seconds(self) -> float: ...

    def memory_peak(self) -> int: ...

    def limit_hit(self) -> Literal["memory", "pids"] | None: ...

    def remove(self) -> None: ...


@dataclass
class Outcome:
    """How a job ended."""

    status: int | None = None
    """Its wait status; none where it was ended from outside."""
    limit_hit: Limit | None = None
    breaches: list[Breach] = field(default_factory=list)


class Output:
    """One stream of a job's, of bounded length."""

    def __init__(self, descriptor: int, most_bytes: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor, self._most, self._kept = descriptor, most_bytes, bytearray()
        self.over = False

    def read(self) -> bool:
        """Take what there is; whether there may be more."""
        try:
            part = os.read(self.descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        self.over |= len(self._kept) + len(part) > self._most
        self._kept += part[: self._most - len(self._kept)]
        return bool(part)

    def rest(self) -> str:
        """All of it, once nobody writes any more."""
        while not self.over and self.read():
            pass
        # a character cut in two by the bound, or bytes that are no text, show as replacements
        return self._kept.decode("utf-8", errors="replace")


def supervise(
    policy: Policy,
    bounds: Bounds,
    outputs: tuple[Output, Output],
    control: socket,
    listener: int | None,
    home: int | None,
    target: Target,
) -> Outcome:
    """Wait until the job ends, meets a limit or makes a hostile call. The caller ends what is left.

    listener, home: of its filter and its folder; none where they are behind another kernel.
    """
    outcome, deadline = Outcome(), time.monotonic() + policy.wall_seconds
    with selectors.DefaultSelector() as waiting:
        for output in outputs:
            waiting.register(output.descriptor, selectors.EVENT_READ, output)
        waiting.register(control, selectors.EVENT_READ)
        if listener is not None:
            waiting.register(listener, selectors.EVENT_READ)
        look = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= deadline:
                outcome.limit_hit = "wall"
                return outcome
            if now >= look:
                look = now + LOOK_EVERY_S
                outcome.limit_hit = _over(policy, bounds)
                if outcome.limit_hit is not None:
                    return outcome
            for key, _ in waiting.select(max(0.0, min(look, deadline) - now)):
                if isinstance(key.data, Output):
                    if not key.data.read():
                        waiting.unregister(key.fd)
                    if key.data.over:
                        outcome.limit_hit = "output"
                        return outcome
                elif listener is not None and key.fd == listener:
                    outcome.breaches.append(breach(listener, target))
                    return outcome
                else:
                    outcome.status = told(control)
                    outcome.limit_hit = _over(policy, bounds) or (
                        "disk" if home is not None and is_full(home) else None
                    )
                    return outcome


def is_full(home: int) -> bool:
    """Whether no byte, or no file, could be added."""
    space = os.fstatvfs(home)
    return space.f_bfree == 0 or space.f_ffree == 0


def _over(policy: Policy, bounds: Bounds) -> Limit | None:
    hit = bounds.limit_hit()
    if hit is None and bounds.cpu_seconds() > policy.cpu_seconds:
        return "cpu"
    return hit


def told(control: socket) -> int | None:
    """The wait status that process 1 reports; none where it is gone. Raises SandboxUnavailable where nothing ran."""
    try:
        message = frames.receive(control)
    except (EOFError, ConnectionError):
        return None
    if "failed" in message:
        raise SandboxUnavailable(f"the sandbox could not be closed, so nothing was run in it: {message['failed']}")
    return message["status"]
