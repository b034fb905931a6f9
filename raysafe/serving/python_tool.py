"""The tool `python`, which the gateway runs for its model in a sandbox: what the model is told of it, what its calls
say, and what it reads of a run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import Field

from raysafe.config import Config
from raysafe.control.capabilities import covers_domain
from raysafe.control.capability_guard import CapabilityGuard
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Breach, Usage
from raysafe.guards.guard import Exchange, Tool
from raysafe.guards.pipeline import Pipeline

NAME = "python"


class PythonToolSettings(Config):
    """How a gateway runs its model's code."""

    policy: Policy = Field(default_factory=Policy, description="The sandbox of each call.")
    calls: int = Field(default=4, ge=1, le=64, description="Most calls in one answer; then the model must answer.")
    at_once: int = Field(default=4, ge=1, le=256, description="Programs that run at the same time; others wait.")
    ready: int = Field(default=2, ge=0, le=64, description="Sandboxes that wait for a call, started beforehand.")
    output_characters: int = Field(
        default=16_000, ge=100, description="Characters of a run's output that the model is shown; the middle is cut."
    )


class Ran(Protocol):
    """The part of a sandbox's result that a model is told of."""

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...

    @property
    def exit_code(self) -> int: ...

    @property
    def limit_hit(self) -> str | None: ...

    @property
    def breaches(self) -> Sequence[Breach]: ...

    @property
    def usage(self) -> Usage: ...


class Sandboxes(Protocol):
    """The part of control.sandbox.pool.Pool that a gateway uses. Cancelling a run kills its sandbox."""

    def start(self) -> None:
        """Raises SandboxUnavailable where there is no isolation."""
        ...

    async def arun(self, code: str, /) -> Ran: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class PythonTool:
    """What a gateway runs its model's code by."""

    settings: PythonToolSettings
    sandboxes: Sandboxes
    places: asyncio.Semaphore

    @classmethod
    def of(cls, settings: PythonToolSettings, sandboxes: Sandboxes) -> PythonTool:
        return cls(settings, sandboxes, asyncio.Semaphore(settings.at_once))

    @property
    def digest(self) -> str:
        """sha256 of the sandbox's policy, for the audit log."""
        return hashlib.sha256(self.settings.policy.model_dump_json().encode()).hexdigest()


def definition(settings: PythonToolSettings) -> Tool:
    """The tool as a model is offered it."""
    policy = settings.policy
    reach = f"Network: {', '.join(policy.domains)} by HTTP and HTTPS." if policy.domains else "There is no network."
    text = (
        f"Run a Python {sys.version_info.major}.{sys.version_info.minor} program and read what it prints. Every call "
        f"starts anew: no variable or file of an earlier one is left. It may take {policy.wall_seconds:g} s and "
        f"{policy.memory_bytes:,} bytes of memory. {reach} Print what you want to know."
    )
    code = {"type": "string", "description": "The whole program."}
    schema = {"type": "object", "properties": {"code": code}, "required": ["code"], "additionalProperties": False}
    return Tool(NAME, json.dumps({"name": NAME, "description": text, "parameters": schema}))


def is_granted(pipeline: Pipeline, exchange: Exchange, domains: Sequence[str] = ()) -> bool:
    """Whether all guards of capabilities let the exchange's model call the tool without a person's approval.

    domains: of the tool's sandbox; a model that may not reach all of them may not call it.
    """
    guards = [entry.guard for entry in pipeline.entries if isinstance(entry.guard, CapabilityGuard)]
    granted = [guard.effective(exchange) for guard in guards]
    return all(
        one.autonomy >= 2
        and bool({NAME, "*"} & set(one.tools))
        and all(any(covers_domain(grant, domain) for grant in one.domains) for domain in domains)
        for one in granted
    )


def read_code(arguments: str) -> str | None:
    """The program in a call's arguments; None where they aren't as the tool's definition says."""
    try:
        given: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or set(given) != {"code"} or not isinstance(given["code"], str):
        return None
    try:
        given["code"].encode()
    except UnicodeEncodeError:
        return None
    return given["code"]


def result_text(ran: Ran, most: int) -> str:
    """What the model reads of a run: how it ended, and what it printed, the end of which says most."""
    ended = f"exit code {ran.exit_code}"
    if ran.limit_hit is not None:
        ended += f", stopped at its limit of {ran.limit_hit}"
    parts = [ended]
    for name, text in (("stdout", ran.stdout), ("stderr", ran.stderr)):
        if text:
            parts.append(f"{name}:\n{_cut(text, most)}")
    return "\n".join(parts)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters are left out here]\n{text[-half:]}"
