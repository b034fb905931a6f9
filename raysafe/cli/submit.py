"""`raysafe submit SCRIPT [its arguments]`: run a job on a Ray cluster and follow it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from raysafe.errors import ConfigError

if TYPE_CHECKING:
    from raysafe.runtime.job_request import Request

HELP = """usage: raysafe submit [FLAGS] SCRIPT [ARGUMENTS OF THE SCRIPT]
       raysafe submit SCRIPT [FLAGS] -- [ARGUMENTS OF THE SCRIPT]

Upload the working folder to a running Ray cluster, run the script there, follow its log, and end with its exit code.
What follows the script, or `--` where there is one, belongs to the script. Ctrl-C asks whether to stop the job.

  --address URL       the cluster's dashboard (RAY_ADDRESS, or http://127.0.0.1:8265)
  --working-dir DIR   folder to upload (.); .venv, runs, .git and caches stay behind
  --python PROGRAM    the interpreter on the cluster's nodes (python, as the head node's PATH has it)
  --wait, --no-wait   follow the job (so without either), or say how to follow it and end

What the job finds there:
  --runtime-env FILE  YAML of Ray's runtime environment: pip, uv, conda, env_vars, py_modules, excludes, …
  --env NAME=VALUE    a variable of the job's environment, above the file's; --env NAME alone sends the value that it
                      has here, so that a secret stands in no command line. May be repeated; values are never printed

What the script itself occupies on the cluster, beside what its tasks and actors take (nothing, if not given):
  --num-cpus N        CPUs                          --memory SIZE     memory, as 2GiB or 2147483648
  --num-gpus N        GPUs                          --resources JSON  custom resources, as '{"licence": 1}'

How it is told apart:
  --submission-id ID  the job's id (made up by Ray); --name NAME is shown beside it by `raysafe jobs list`
  --metadata KEY=VALUE  kept with the job; may be repeated, or be one JSON mapping of texts

A token: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds the cluster's own.
Later: `raysafe jobs list | logs | show | stop`.

Example: raysafe submit --env HF_TOKEN --num-cpus 1 jobs/dpo.py --config jobs/presets/dpo_tiny.yaml"""

SINGLE = (
    *("--address", "--working-dir", "--python", "--runtime-env", "--num-cpus", "--num-gpus"),
    *("--memory", "--resources", "--submission-id", "--name"),
)
REPEATED = ("--env", "--metadata")
SWITCHES = {"--wait": True, "--no-wait": False}
KNOWN = ", ".join((*SINGLE, *REPEATED, *SWITCHES))


class Submission(NamedTuple):
    """What the command line asks for, as it stands there."""

    script: str
    arguments: list[str]
    address: str | None = None
    working_dir: str | None = None
    python: str = "python"
    wait: bool = True
    runtime_env: str | None = None
    num_cpus: str | None = None
    num_gpus: str | None = None
    memory: str | None = None
    resources: str | None = None
    submission_id: str | None = None
    name: str | None = None
    env: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()


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
    given: dict[str, Any] = {}
    script = None
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
        field = flag[2:].replace("-", "_")
        if flag in SWITCHES:
            if equals:
                raise ConfigError(f"{flag} takes no value")
            given["wait"] = SWITCHES[flag]
            continue
        if flag not in (*SINGLE, *REPEATED):
            raise ConfigError(f"unknown flag '{flag}' before the script's arguments; known: {KNOWN}")
        if not equals and not own:
            raise ConfigError(f"{flag} needs a value")
        value = value if equals else own.pop(0)
        given[field] = (*given.get(field, ()), value) if flag in REPEATED else value
    if script is None and separated and of_script:
        script, *of_script = of_script
    if script is None:
        raise ConfigError("which script? raysafe submit jobs/dpo.py --config jobs/presets/dpo_tiny.yaml")
    return Submission(script, of_script, **given)


def read_request(asked: Submission) -> Request:
    """The cluster's side of what the command line asks for, checked; raises ConfigError naming the flag."""
    from raysafe.runtime import job_request as of

    return of.Request(
        runtime_env=of.runtime_env(asked.runtime_env, of.read_variables(asked.env), asked.working_dir),
        num_cpus=of.read_amount("--num-cpus", asked.num_cpus) if asked.num_cpus is not None else None,
        num_gpus=of.read_amount("--num-gpus", asked.num_gpus) if asked.num_gpus is not None else None,
        memory_bytes=of.read_bytes("--memory", asked.memory) if asked.memory is not None else None,
        resources=of.read_resources(asked.resources) if asked.resources is not None else {},
        submission_id=of.check_submission_id(asked.submission_id) if asked.submission_id is not None else None,
        metadata=of.read_metadata(asked.metadata, asked.name),
    )


def _run(asked: Submission) -> int:
    from raysafe.runtime.jobs import follow, how_to_follow, job_client, stop, submit

    request = read_request(asked)
    client = job_client(asked.address)
    job = submit(client, asked.script, asked.arguments, request=request, python=asked.python)
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
