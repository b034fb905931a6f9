"""Ray Jobs: submit a script to a running cluster, follow its log, learn its exit code, stop it."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from raysafe.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
EXCLUDES = [
    "/.venv*",
    "/runs",
    "/.git",
    "**/__pycache__",
    "**/.*_cache",
    "**/.hypothesis",
    "**/node_modules",
]
END_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def job_client(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's dashboard; raises ResourceError where it can't be reached or refuses the token."""
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient
    from ray.job_submission import JobSubmissionClient

    # what it packs and leaves out, file by file, would bury the job's own log
    for name in ("ray", JobSubmissionClient.__module__, SubmissionClient.__module__):
        logging.getLogger(name).setLevel(logging.ERROR)
    target = address or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS
    with _told(target):
        _send_token(target)
        return JobSubmissionClient(target)


def _send_token(target: str) -> None:
    """Let Ray's client send the token that this machine holds, which it does only where RAY_AUTH_MODE is "token".

    A token that is only in ~/.ray/auth_token goes to this machine's own clusters, never to a host that it isn't for.
    """
    # private in Ray 2.60; ray.init() does the same when it joins a cluster
    from ray._private.authentication.authentication_token_setup import _enable_token_auth
    from ray._raylet import AuthenticationTokenLoader  # pyright: ignore[reportAttributeAccessIssue]

    if "RAY_AUTH_MODE" in os.environ:
        return
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if (named or urlsplit(target).hostname in _LOOPBACK) and AuthenticationTokenLoader.instance().has_token(
        ignore_auth_mode=True
    ):
        _enable_token_auth()


def submit(
    client: JobSubmissionClient, script: str, arguments: Sequence[str], *, working_dir: str, python: str = "python"
) -> str:
    """Upload the working folder and start the script there, by the cluster's own `python`; returns the job's id."""
    if not Path(working_dir, script).is_file():
        raise ConfigError(f"there is no script {script} in {Path(working_dir).absolute()}: give its path from there")
    entrypoint = shlex.join([python, script, *arguments])
    try:
        with _told(client.get_address()):
            return client.submit_job(
                entrypoint=entrypoint, runtime_env={"working_dir": working_dir, "excludes": list(EXCLUDES)}
            )
    except ValueError as error:
        # Ray refuses packages over 500 MiB this way
        raise ConfigError(f"can't upload {Path(working_dir).absolute()}: {_first_line(error)}") from None


def how_to_follow(client: JobSubmissionClient, job: str) -> str:
    """The command that follows the job from any terminal."""
    return f"ray job logs --follow --address {client.get_address()} {job}"


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log until it ends; returns its exit code, as a shell would say it (1 where Ray knows none)."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            sys.stdout.write(lines)
            sys.stdout.flush()

    with _told(client.get_address(), then=f"job {job} may go on: {how_to_follow(client, job)}"):
        asyncio.run(tail())
        deadline = time.monotonic() + END_TIMEOUT_S
        while not (status := client.get_job_status(job)).is_terminal():
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"the log of job {job} ended but the job has not: follow it with {how_to_follow(client, job)}"
                )
            time.sleep(0.5)
        if status == "SUCCEEDED":
            return 0
        info = client.get_job_info(job)
    if info.driver_exit_code is None:
        print(f"job {job} {status.value.lower()}: {info.message}", file=sys.stderr)
    return exit_code(info.driver_exit_code)


def exit_code(driver: int | None) -> int:
    """A failed job's exit code: never 0; 128 and the signal's number where a signal ended it."""
    if driver is not None and driver < 0:
        return 128 - driver
    return driver or 1


def stop(client: JobSubmissionClient, job: str) -> None:
    """Ask the cluster to end the job."""
    with _told(client.get_address()):
        client.stop_job(job)


@contextmanager
def _told(target: str, then: str = "start a cluster with `ray start --head`, or give --address") -> Iterator[None]:
    """Turn what Ray's client raises into a sentence. `then`: what to do where the cluster can't be reached."""
    import aiohttp
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        refused = "wants a token" if "required" in _first_line(error) else "refused the token"
        raise ResourceError(
            f"the cluster at {target} {refused}: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to its own, "
            "and RAY_AUTH_MODE to token"
        ) from None
    except (OSError, aiohttp.ClientError) as error:
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in (401, 403):
            raise ResourceError(f"the cluster at {target} refused the token: set RAY_AUTH_TOKEN to its own") from None
        raise ResourceError(f"there is no Ray dashboard at {target}: {then}") from None
    except RuntimeError as error:
        raise ResourceError(f"the Ray cluster at {target} failed a request: {_first_line(error)}; {then}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
