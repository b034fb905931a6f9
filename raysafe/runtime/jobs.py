"""Ray Jobs: submit a script to a running cluster, follow its log, learn its exit code, stop it."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysafe.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
EXCLUDES = ["/.venv*", "/runs", "/.git", "**/__pycache__", "/.pytest_cache", "/.ruff_cache", "/.hypothesis"]
END_TIMEOUT_S = 30.0


def job_client(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's dashboard; raises ResourceError where it can't be reached or refuses the token."""
    from ray.job_submission import JobSubmissionClient

    target = address or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS
    try:
        return JobSubmissionClient(target)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        text = str(error)
        if "401" in text or "403" in text or "token" in text.lower():
            raise ResourceError(
                f"the cluster at {target} refused the token: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to its own"
            ) from None
        raise ResourceError(
            f"there is no Ray dashboard at {target}: start a cluster with `ray start --head`, or give --address"
        ) from None


def submit(client: JobSubmissionClient, script: str, arguments: Sequence[str], *, working_dir: str) -> str:
    """Upload the working folder and start the script there; returns the job's id."""
    if not Path(working_dir, script).is_file():
        raise ConfigError(f"there is no script {script} in {Path(working_dir).absolute()}: give its path from there")
    entrypoint = shlex.join(["python", script, *arguments])
    return client.submit_job(
        entrypoint=entrypoint, runtime_env={"working_dir": working_dir, "excludes": list(EXCLUDES)}
    )


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log until it ends; returns its exit code (1 where Ray knows none)."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            sys.stdout.write(lines)
            sys.stdout.flush()

    asyncio.run(tail())
    deadline = time.monotonic() + END_TIMEOUT_S
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            raise ResourceError(f"the log of job {job} ended but the job has not: ray job logs --follow {job}")
        time.sleep(0.5)
    if status == "SUCCEEDED":
        return 0
    info = client.get_job_info(job)
    if info.driver_exit_code is None:
        print(f"job {job} {status.value.lower()}: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1
