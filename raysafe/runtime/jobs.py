"""Ray Jobs: submit a script to a running cluster, follow its log, learn its exit code, list and stop jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from raysafe.errors import ConfigError, ResourceError
from raysafe.runtime.bar import Bar
from raysafe.runtime.job_request import Request, describe_folder, redacted, runtime_env

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
END_TIMEOUT_S = 30.0
AGENT_WAIT_S = 60.0
STOP_TIMEOUT_S = 60.0
PENDING_NOTE_S = 5.0
STILL_WAITS = (
    "but has not started: Ray ends it when it starts, or when it has waited for 15 minutes "
    "(RAY_JOB_START_TIMEOUT_SECONDS, where the head was started)"
)
POLL_INTERVAL_S = 0.5
_SERVER = "RAY_API_SERVER_ADDRESS"
_TAKEN = re.compile(r"submission_id (\S+) already exists")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def job_client(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's dashboard; raises ResourceError where it can't be reached or refuses the token."""
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient
    from ray.job_submission import JobSubmissionClient

    # what it packs and leaves out, file by file, would bury the job's own log
    for name in ("ray", JobSubmissionClient.__module__, SubmissionClient.__module__):
        logging.getLogger(name).setLevel(logging.ERROR)
    target = address or os.environ.get(_SERVER) or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS
    with _told(target), _preferred(target):
        _send_token(target)
        return JobSubmissionClient(target)


@contextmanager
def _preferred(target: str) -> Iterator[None]:
    """Let Ray's client ask this address: it would take RAY_ADDRESS, where that is set, rather than what it is given."""
    before = os.environ.get(_SERVER)
    os.environ[_SERVER] = target
    try:
        yield
    finally:
        os.environ.pop(_SERVER)
        if before is not None:
            os.environ[_SERVER] = before


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
    client: JobSubmissionClient,
    script: str,
    arguments: Sequence[str],
    *,
    request: Request | None = None,
    python: str = "python",
) -> str:
    """Upload the working folder and start the script there, by the cluster's own `python`; returns the job's id."""
    request = request or Request(runtime_env(None, {}, None))
    environment, place = request.runtime_env, describe_folder(request.runtime_env)
    if "://" not in place and not Path(place, script).is_file():
        raise ConfigError(f"there is no script {script} in {place}: give its path from there")
    entrypoint = shlex.join([python, script, *arguments])
    try:
        with _told(client.get_address()):
            return _when_ready(
                lambda: client.submit_job(
                    entrypoint=entrypoint,
                    runtime_env=environment,
                    submission_id=request.submission_id,
                    metadata=dict(request.metadata),
                    entrypoint_num_cpus=request.num_cpus,
                    entrypoint_num_gpus=request.num_gpus,
                    entrypoint_memory=request.memory_bytes,
                    entrypoint_resources=request.resources or None,
                )
            )
    except (TypeError, ValueError) as error:
        # Ray refuses packages over 500 MiB this way, and runtime environments that contradict themselves
        problem = redacted(_first_line(error), environment)
        raise ConfigError(f"can't upload {place} with its runtime environment: {problem}") from None


def _when_ready(start: Callable[[], str], wait_s: float = AGENT_WAIT_S, pause_s: float = 1.0) -> str:
    """`start()`, again for a while where the cluster was started a moment ago and its agents aren't."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return start()
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(pause_s)


def list_jobs(client: JobSubmissionClient) -> list[JobDetails]:
    """Every job that the cluster remembers, the newest first; drivers that joined unsubmitted are among them."""
    with _told(client.get_address()):
        jobs = client.list_jobs()
    return sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)


def find_job(client: JobSubmissionClient, job: str) -> JobDetails:
    """What the cluster knows of a job; raises ResourceError where it knows none of that id."""
    with _told(client.get_address(), job=job):
        # an id is one part of a URL's path: nothing in it may lead elsewhere
        return client.get_job_info(quote(job, safe=""))


def read_log(client: JobSubmissionClient, job: str) -> str:
    """What a job has printed so far."""
    _submitted(client, job)
    with _told(client.get_address(), job=job):
        return client.get_job_logs(job)


def how_to_follow(client: JobSubmissionClient, job: str) -> str:
    """The command that follows the job from any terminal."""
    return f"raysafe jobs logs --follow {job} --address {client.get_address()}"


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log until it ends; returns its exit code, as a shell would say it (1 where Ray knows none)."""
    info = _submitted(client, job)
    with _told(client.get_address(), then=f"job {job} may go on: {how_to_follow(client, job)}"):
        asyncio.run(_tail(client, job, waiting=info.status == "PENDING"))
        deadline = time.monotonic() + END_TIMEOUT_S
        while not (info := client.get_job_info(job)).status.is_terminal():
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"the log of job {job} ended but the job has not: follow it with {how_to_follow(client, job)}"
                )
            time.sleep(POLL_INTERVAL_S)
    if info.status == "SUCCEEDED":
        return 0
    if info.driver_exit_code is None:
        message = redacted(info.message or "", info.runtime_env)
        print(f"job {job} {info.status.value.lower()}: {message}", file=sys.stderr)
    return exit_code(info.driver_exit_code)


async def _tail(client: JobSubmissionClient, job: str, *, waiting: bool) -> None:
    """Print the log as it grows; say once why nothing comes where the job has to wait."""

    async def explain() -> None:
        await asyncio.sleep(PENDING_NOTE_S)
        info = await asyncio.to_thread(client.get_job_info, job)
        if info.status == "PENDING":
            print(f"job {job} waits: {redacted(info.message or '', info.runtime_env)}", file=sys.stderr)

    note = asyncio.create_task(explain()) if waiting else None
    try:
        async for lines in client.tail_job_logs(job):
            sys.stdout.write(lines)
            sys.stdout.flush()
    finally:
        if note is not None:
            note.cancel()


def _submitted(client: JobSubmissionClient, job: str) -> JobDetails:
    """The job, which must have come by Ray Jobs: the cluster keeps no log of other drivers and can't end them."""
    info = find_job(client, job)
    if info.submission_id is None:
        raise ResourceError(
            f"job {job} joined the cluster by itself and was not submitted: look and end it where it runs"
        )
    return info


def exit_code(driver: int | None) -> int:
    """A failed job's exit code: never 0; 128 and the signal's number where a signal ended it."""
    if driver is not None and driver < 0:
        return 128 - driver
    return driver or 1


def stop(client: JobSubmissionClient, job: str) -> bool:
    """Ask the cluster to end the job; False where it had ended already."""
    _submitted(client, job)
    with _told(client.get_address(), job=job):
        return client.stop_job(job)


def wait_for_end(client: JobSubmissionClient, job: str) -> JobDetails:
    """Wait until a job that was asked to stop has ended; raises ResourceError after a minute."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    with Bar(f"job {job} ends", total=round(STOP_TIMEOUT_S), unit="second") as bar:
        while not (info := find_job(client, job)).status.is_terminal():
            left = deadline - time.monotonic()
            if left <= 0:
                state = STILL_WAITS if info.status == "PENDING" else "and still runs: look at its log"
                raise ResourceError(f"job {job} was asked to stop {STOP_TIMEOUT_S:g} s ago {state}")
            bar.show(round(STOP_TIMEOUT_S - left))
            time.sleep(POLL_INTERVAL_S)
    return info


@contextmanager
def _told(
    target: str, then: str = "start a cluster with `ray start --head`, or give --address", job: str | None = None
) -> Iterator[None]:
    """Turn what Ray's client raises into a sentence.

    then: what to do where the cluster can't be reached. job: the id that is asked about.
    """
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
        if job is not None and "status code 404" in _first_line(error):
            raise ResourceError(
                f"the cluster at {target} knows no job {job}: `raysafe jobs list --all --address {target}` shows them"
            ) from None
        if taken := _TAKEN.search(str(error)):
            raise ConfigError(f"there is a job {taken[1]} already: choose another --submission-id") from None
        raise ResourceError(f"the Ray cluster at {target} failed a request: {_first_line(error)}; {then}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
