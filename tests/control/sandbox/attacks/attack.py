"""An attack: a payload that says SUCCEEDED where it got what it wanted, told the same way in a sandbox and outside."""

from __future__ import annotations

from dataclasses import dataclass

SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class Attack:
    """Python source. It finds HOST, a dict of what is planted on the host, N, numbers of system calls, and
    call(name, *arguments), which raises OSError.
    """

    name: str
    code: str
    alone: bool = False
    """It ends its sandbox, by a limit or a breach, so it has one to itself."""
    safe: bool = True
    """Whether it may be shown to succeed in a plain subprocess of this machine."""
    ends_by: str | None = None
    """The limit that must be named, or the breach's detail."""
    leaves: bool = False
    """Its success is in the files it leaves: harness.naive_harvest says."""
    machine: str | None = None
    """The only architecture that it is for."""
