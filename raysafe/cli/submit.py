"""`raysafe submit SCRIPT [its arguments]`: run a job on a Ray cluster and follow it."""

from __future__ import annotations

import sys

from raysafe.errors import ConfigError

HELP = """usage: raysafe submit [--address URL] [--working-dir DIR] [--no-wait] SCRIPT [ARGUMENTS OF THE SCRIPT]

Upload the working folder to a running Ray cluster, run the script there, follow its log, and end with its exit code.
Ctrl-C asks whether to stop the job.

  --address URL      the cluster's dashboard (RAY_ADDRESS, or http://127.0.0.1:8265)
  --working-dir DIR  folder to upload (.); .venv, runs and .git stay behind
  --no-wait          say how to follow the job, and end

Example: raysafe submit jobs/dpo.py --config jobs/presets/dpo_tiny.yaml"""


def main(argv: list[str]) -> int:
    """Everything after the script belongs to the script."""
    address, working_dir, wait = None, ".", True
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        flag, equals, value = rest.pop(0).partition("=")
        if flag in ("-h", "--help"):
            print(HELP)
            return 0
        if flag == "--no-wait":
            wait = False
            continue
        if flag not in ("--address", "--working-dir"):
            raise ConfigError(f"unknown flag '{flag}' before the script; known: --address, --working-dir, --no-wait")
        if not equals and not rest:
            raise ConfigError(f"{flag} needs a value")
        value = value if equals else rest.pop(0)
        address, working_dir = (value, working_dir) if flag == "--address" else (address, value)
    if not rest:
        raise ConfigError("which script? raysafe submit jobs/dpo.py --config jobs/presets/dpo_tiny.yaml")
    return _run(rest[0], rest[1:], address, working_dir, wait)


def _run(script: str, arguments: list[str], address: str | None, working_dir: str, wait: bool) -> int:
    from raysafe.runtime.jobs import follow, job_client, submit

    client = job_client(address)
    job = submit(client, script, arguments, working_dir=working_dir)
    how = f"ray job logs --follow {job}"
    print(f"job {job} submitted", file=sys.stderr)
    if not wait:
        print(how)
        return 0
    try:
        return follow(client, job)
    except KeyboardInterrupt:
        if _wants_to_stop(job):
            client.stop_job(job)
            print(f"job {job} stopped", file=sys.stderr)
        else:
            print(f"job {job} goes on; follow it with: {how}", file=sys.stderr)
        return 130


def _wants_to_stop(job: str) -> bool:
    """Ask on the terminal; without one the job goes on, for nobody said that it should end."""
    if not sys.stdin.isatty():
        return False
    return input(f"\nstop job {job}? [y/N] ").strip().lower() in ("y", "yes")
