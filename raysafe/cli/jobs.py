"""`raysafe jobs list | show | logs | stop`: the jobs of a Ray cluster, from any terminal."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from raysafe.cli.arguments import AsJson
from raysafe.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

RECENT_S = 24 * 3600
ENTRYPOINT_CHARACTERS = 60
Address = Annotated[
    str | None, tyro.conf.arg(help="The cluster's dashboard; RAY_ADDRESS, or http://127.0.0.1:8265, by default.")
]
JobId = tyro.conf.Positional[str]
_DESCRIPTION = f"""{__doc__}

Where the cluster wants a token, set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it."""


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_jobs, "show": show, "logs": logs, "stop": stop}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe jobs", description=_DESCRIPTION)


def list_jobs(
    *,
    address: Address = None,
    everything: Annotated[
        bool, tyro.conf.arg(name="all", help="Older jobs too, and drivers that joined the cluster unsubmitted.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Jobs that wait or run, and those that ended in the last day, the newest first."""
    from raysafe.runtime.jobs import job_client
    from raysafe.runtime.jobs import list_jobs as known

    client = job_client(address)
    jobs = known(client)
    shown = jobs if everything else [job for job in jobs if _recent(job)]
    if as_json:
        print_json([_facts(job) for job in shown])
        return 0
    if shown:
        print_table(("id", "name", "status", "entrypoint", "started", "duration", "exit"), [_row(job) for job in shown])
    else:
        print(f"no jobs of the last day at {client.get_address()}" if jobs else f"no jobs at {client.get_address()}")
    if left := len(jobs) - len(shown):
        print(f"{left} more with --all")
    return 0


def show(job: JobId, *, address: Address = None, as_json: AsJson = False) -> int:
    """One job: its state, where it runs, and what it was submitted with. Variables are shown without their values."""
    from raysafe.runtime.jobs import find_job, job_client

    facts = _facts(find_job(job_client(address), job))
    if as_json:
        print_json(facts)
        return 0
    rows = [(name, value) for name, value in facts.items() if value not in (None, {}, "")]
    print_table(("what", "value"), rows)
    return 0


def logs(
    job: JobId,
    *,
    address: Address = None,
    follow: Annotated[bool, tyro.conf.arg(help="Print on until the job ends; end with its exit code.")] = False,
) -> int:
    """What a job has printed. Ctrl-C ends the following, not the job."""
    from raysafe.runtime import jobs

    client = jobs.job_client(address)
    if not follow:
        sys.stdout.write(jobs.read_log(client, job))
        return 0
    try:
        return jobs.follow(client, job)
    except KeyboardInterrupt:
        print(f"job {job} goes on; follow it with: {jobs.how_to_follow(client, job)}", file=sys.stderr)
        return 130


def stop(
    job: JobId,
    *,
    address: Address = None,
    wait: Annotated[bool, tyro.conf.arg(help="Return when the job has ended, not when it was asked to.")] = False,
) -> int:
    """Ask the cluster to end a job: it gets SIGTERM, and SIGKILL where it doesn't obey within seconds."""
    from raysafe.runtime import jobs

    client = jobs.job_client(address)
    if not jobs.stop(client, job):
        print(f"job {job} has ended already: {jobs.find_job(client, job).status.value.lower()}")
        return 0
    if not wait:
        waits = jobs.find_job(client, job).status == "PENDING"
        print(f"job {job} was asked to stop" + (f", {jobs.STILL_WAITS}" if waits else ""))
        return 0
    print(f"job {job} has ended: {jobs.wait_for_end(client, job).status.value.lower()}")
    return 0


def _recent(job: JobDetails) -> bool:
    """Whether a submitted job goes on, or ended within the last day."""
    if job.submission_id is None:
        return False
    ended = job.end_time or job.start_time or 0
    return not job.status.is_terminal() or time.time() - ended / 1000 < RECENT_S


def _row(job: JobDetails) -> tuple[object, ...]:
    entrypoint = " ".join(job.entrypoint.split())
    if len(entrypoint) > ENTRYPOINT_CHARACTERS:
        entrypoint = entrypoint[: ENTRYPOINT_CHARACTERS - 1] + "…"
    name = (job.metadata or {}).get("job_name", "")
    return (_id(job), name, job.status.value, entrypoint, _time(job.start_time), _duration(job), job.driver_exit_code)


def _facts(job: JobDetails) -> dict[str, Any]:
    from raysafe.runtime.job_request import redacted, shown_environment

    return {
        "id": _id(job),
        "status": job.status.value,
        "exit": job.driver_exit_code,
        "message": redacted(job.message or "", job.runtime_env),
        "error": job.error_type,
        "entrypoint": job.entrypoint,
        "submitted": job.submission_id is not None,
        "started": _time(job.start_time),
        "ended": _time(job.end_time),
        "duration": _duration(job),
        "metadata": job.metadata or {},
        "runtime_env": shown_environment(job.runtime_env),
        "ray_job": job.job_id,
        "node": job.driver_node_id,
    }


def _id(job: JobDetails) -> str:
    return job.submission_id or job.job_id or ""


def _time(milliseconds: int | None) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000):%Y-%m-%d %H:%M:%S}" if milliseconds else ""


def _duration(job: JobDetails) -> str:
    if not job.start_time:
        return ""
    seconds = (job.end_time or time.time() * 1000) / 1000 - job.start_time / 1000
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
