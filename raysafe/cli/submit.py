"""`raysafe submit SCRIPT [its arguments]`: run a job on a Ray cluster and follow it."""

from __future__ import annotations

import sys
from typing import NamedTuple

from raysafe.errors import ConfigError

HELP = """usage: raysafe submit [FLAGS] SCRIPT [ARGUMENTS OF THE SCRIPT]
       raysafe submit SCRIPT [FLAGS] -- [ARGUMENTS OF THE SCRIPT]

Upload the working folder to a running Ray cluster, run the script there, follow its log, and end with its exit code.
What follows the script, or `--` where there is one, belongs to the script. Ctrl-C asks whether to stop the job.

  --address URL      the cluster's dashboard (RAY_ADDRESS, or http://127.0.0.1:8265)
  --working-dir DIR  folder to upload (.); .venv, runs, .git and caches stay behind
  --python PROGRAM   the interpreter on the cluster's nodes (python, as the head node's PATH has it)
  --no-wait          say how to follow the job, and end

Example: raysafe submit jobs/dpo.py --config jobs/presets/dpo_tiny.yaml"""

KNOWN = "--address, --working-dir, --python, --no-wait"


class Submission(NamedTuple):
    """What the command line asks for."""

    script: str
    arguments: list[str]
    address: str | None = None
    working_dir: str = "."
    python: str = "python"
    wait: bool = True


def main(argv: list[str]) -> int:
    """Submit a script and follow it; returns its exit code, or 130 after Ctrl-C."""
    submission = read_arguments(argv)
    if submission is None:
        print(HELP)
        return 0
    return _run(submission)


def read_arguments(argv: list[str]) -> Submission | None:
    """The command line read; None where it asks for help. Raises ConfigError."""
    own, separated, of_script = list(argv), "--" in argv, []
    if separated:
        cut = own.index("--")
        own, of_script = own[:cut], own[cut + 1 :]
    given: dict[str, str] = {}
    script, wait = None, True
    while own:
        argument = own.pop(0)
        if not argument.startswith("-"):
            if script is not None:
                raise ConfigError(f"what is '{argument}' after {script}? the script's own arguments follow `--`")
            script = argument
            if not separated:
                of_script, own = own, []
            continue
        flag, equals, value = argument.partition("=")
        if flag in ("-h", "--help"):
            return None
        if flag == "--no-wait":
            wait = False
            continue
        if flag not in ("--address", "--working-dir", "--python"):
            raise ConfigError(f"unknown flag '{flag}' before the script's arguments; known: {KNOWN}")
        if not equals and not own:
            raise ConfigError(f"{flag} needs a value")
        given[flag[2:].replace("-", "_")] = value if equals else own.pop(0)
    if script is None and separated and of_script:
        script, *of_script = of_script
    if script is None:
        raise ConfigError("which script? raysafe submit jobs/dpo.py --config jobs/presets/dpo_tiny.yaml")
    return Submission(script, of_script, wait=wait, **given)


def _run(asked: Submission) -> int:
    from raysafe.runtime.jobs import follow, how_to_follow, job_client, stop, submit

    client = job_client(asked.address)
    job = submit(client, asked.script, asked.arguments, working_dir=asked.working_dir, python=asked.python)
    how = how_to_follow(client, job)
    print(f"job {job} submitted", file=sys.stderr)
    if not asked.wait:
        print(how)
        return 0
    try:
        return follow(client, job)
    except KeyboardInterrupt:
        if _wants_to_stop(job):
            stop(client, job)
            print(f"job {job} stopped", file=sys.stderr)
        else:
            print(f"job {job} goes on; follow it with: {how}", file=sys.stderr)
        return 130


def _wants_to_stop(job: str) -> bool:
    """Ask on the terminal; without one, or without an answer, the job goes on: nobody said that it should end."""
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"\nstop job {job}? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
