"""What code in a sandbox may use: limits that bind, and the few things that it may reach."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from raysafe.config import Config
from raysafe.control.sandbox.proxy.rules import NetworkLimits, NetworkRules, check_domain

MIB = 1 << 20
HOME = "/tmp/sandbox"
"""The folder inside in which the code runs, where its files are, and from which results are taken."""
RESERVED = (
    "/proc",
    "/sys",
    "/dev",
    "/tmp/sandbox",
    "/tmp/shm",
    "/run/raysafe",
    "/run/raysafe-proxy",
    "/etc/passwd",
    "/etc/group",
)


class Policy(Config):
    """Limits of one sandbox. Each is of all its processes together, however many they are."""

    backend: Literal["bubblewrap", "gvisor"] = Field(
        default="bubblewrap",
        description="bubblewrap (the host's kernel behind a filter), or gvisor (a kernel of its own, by runsc, where "
        "that is installed; slower to start, and without domains).",
    )
    memory_bytes: int = Field(
        default=4 << 30, ge=32 * MIB, le=1 << 44, description="Memory, the files it writes included."
    )
    cpus: float = Field(default=2.0, gt=0, le=1024, description="Processors at a time.")
    cpu_seconds: float = Field(default=600.0, gt=0, description="Processor time.")
    wall_seconds: float = Field(default=300.0, gt=0, le=7 * 86_400, description="Time from start to end.")
    disk_bytes: int = Field(
        default=100_000_000, ge=MIB, le=1 << 40, description="Everything written to files, input files included."
    )
    inodes: int = Field(default=10_000, ge=16, le=1 << 24, description="Files, folders and links.")
    pids: int = Field(default=128, ge=1, le=32_768, description="Processes and threads at a time.")
    output_bytes: int = Field(default=MIB, ge=1, le=MIB, description="Of stdout, and of stderr.")
    gpus: int = Field(default=0, ge=0, description="A sandbox has none: only 0 is taken.")
    execute: bool = Field(
        default=False,
        description="Whether the code may start other programs. The one that an argv names starts either way; what a "
        "process reads and runs by itself is its own code.",
    )
    readable: tuple[str, ...] = Field(
        default=(), description="Files and folders of the host that it may read, at the same paths."
    )
    domains: tuple[str, ...] = Field(default=(), description="Domains that it may reach; none: no network.")
    bandwidth_bytes_per_s: int = Field(default=1_000_000, ge=1, description="To and from all domains together.")
    network: NetworkLimits = Field(default_factory=NetworkLimits, description="What may pass to and from domains.")

    @field_validator("gpus")
    @classmethod
    def _no_gpu(cls, gpus: int) -> int:
        if gpus:
            raise ValueError("a sandbox has no GPU, for a driver's device files lead out of it: use 0")
        return gpus

    @field_validator("domains")
    @classmethod
    def _names(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_domain(domain) for domain in domains)

    @field_validator("readable")
    @classmethod
    def _plain_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            pure = PurePosixPath(path)
            if not pure.is_absolute() or ".." in pure.parts or str(pure) != path or path == "/":
                raise ValueError(f"'{path}' must be an absolute path without '..' and not '/' itself")
            if any(pure.is_relative_to(taken) or PurePosixPath(taken).is_relative_to(pure) for taken in RESERVED):
                raise ValueError(f"'{path}' is a place that the sandbox has of its own")
            if not Path(path).exists():
                raise ValueError(f"there is no '{path}' on this machine")
        return paths

    @property
    def network_rules(self) -> NetworkRules:
        """What the proxy of a sandbox with domains goes by."""
        limits = self.network.model_dump()
        return NetworkRules(domains=self.domains, bytes_per_s=self.bandwidth_bytes_per_s, **limits)

    @model_validator(mode="after")
    def _room_for_files(self) -> Self:
        if self.disk_bytes > self.memory_bytes:
            raise ValueError(
                f"disk_bytes ({self.disk_bytes}) are kept in memory and can't be more than memory_bytes "
                f"({self.memory_bytes}): raise memory_bytes or lower disk_bytes"
            )
        return self
