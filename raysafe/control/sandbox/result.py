"""What a sandbox leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from raysafe.errors import DataError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raysafe.control.sandbox.proxy.traffic import NetworkRequest

Limit = Literal["memory", "cpu", "wall", "disk", "pids", "output"]


class SandboxUnavailable(ResourceError):
    """This machine can't isolate code, or not as the policy asks; nothing was run."""


class OutputRefused(DataError):
    """What the code left doesn't fit the caller's schema; `result` holds what it was."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class Breach:
    """An attempt at what no program that was meant for the sandbox does. It was stopped, and the sandbox with it."""

    what: Literal["system call", "result"]
    detail: str
    """The system call's name, or what was wrong with which file."""


@dataclass(frozen=True)
class Usage:
    """What was used, by all processes together."""

    wall_seconds: float
    cpu_seconds: float
    memory_bytes: int
    """At most, at any time."""
    disk_bytes: int
    """At the end."""
    inodes: int
    """At the end."""
    network: tuple[NetworkRequest, ...] = field(default=(), kw_only=True)
    """What it asked of the network, and what became of it."""
    enforced_by: Literal["cgroup v1", "cgroup v2", "watchdog"]
    """What bound memory, processor time and processes. A watchdog looks every few milliseconds."""


@dataclass(frozen=True)
class Result:
    """stdout and stderr are what the code wrote, terminal escapes included: data, never to be printed as it is."""

    stdout: str
    stderr: str
    exit_code: int
    """As the kernel told it: negative for the signal that ended it, as in subprocess. -9 where a limit ended it."""
    limit_hit: Limit | None
    files: Mapping[str, bytes]
    """By path in the folder: what the code made or changed there."""
    usage: Usage
    refused: Mapping[str, str] = field(default_factory=dict)
    """Files that were left where they were, and why: links, devices, names that could mislead, too many bytes."""
    breaches: tuple[Breach, ...] = ()
    value: Any = None
    """What was validated, where a schema was given."""
