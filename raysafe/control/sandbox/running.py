"""`run`: one job in one sandbox, its output checked, its breaches recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.opening import open_sandbox
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Breach, Result
from raysafe.control.sandbox.validate import STDOUT, validated
from raysafe.records.audit import AuditLog

Hook = Callable[[Breach], None]


def run(
    code_or_argv: str | list[str] | tuple[str, ...],
    policy: Policy | None = None,
    files: Mapping[str, bytes | str] | None = None,
    *,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    output: str = STDOUT,
    audit: AuditLog | None = None,
    on_breach: Hook | None = None,
) -> Result:
    """Run Python source (a str) or a program (a list) in a sandbox of its own; returns when nothing of it is left.

    policy: its limits; Policy() by default. files: what its folder, /tmp/sandbox, holds at the start, by path.
    schema: a pydantic model or a JSON Schema for the JSON in `output` (stdout, or a file's path), the result's `value`.
    audit: where a breach is written, before anything of the result is seen. on_breach: called then, once a breach.

    Raises SandboxUnavailable where this machine can't isolate (nothing was run), ConfigError for a job that can't be
    one, and OutputRefused, with the result in it, where the output doesn't fit the schema.
    """
    job, policy = Job.of(code_or_argv, files), policy or Policy()
    job.check(policy)
    with closing(open_sandbox(policy)) as sandbox:
        result = sandbox.run(job)
    report(result, job, audit, on_breach)
    return result if schema is None else replace(result, value=validated(result, schema, output))


def report(result: Result, job: Job, audit: AuditLog | None, on_breach: Hook | None) -> None:
    """Write the breaches of a job into the audit log, each durable before the hook hears of it."""
    for breach in result.breaches:
        if audit is not None:
            code = job.code if isinstance(job.code, str) else "\0".join(job.code)
            digest = hashlib.sha256(code.encode()).hexdigest()
            audit.append(
                "sandbox_breach", "sandbox", f"sha256:{digest}", {"what": breach.what, "detail": breach.detail}
            )
        if on_breach is not None:
            on_breach(breach)
