"""`raysafe sandbox run FILE.py`, or `raysafe sandbox run -- PROGRAM ARGUMENTS…`: run code that isn't trusted."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from raysafe.cli.output import print_json, printable
from raysafe.config import read_yaml
from raysafe.control.sandbox import Policy, Result, run
from raysafe.control.sandbox.proxy.traffic import ALLOWED
from raysafe.errors import ConfigError

USAGE = "usage: raysafe sandbox run [OPTIONS] FILE.py | -- PROGRAM [ARGUMENTS…]"


class SandboxRun(Policy):
    """Run a Python file, or a program, in a sandbox: no network, no privileges, nothing of this machine's files but
    Python, its packages and the system's programs, and bounded memory, processors, time, files and processes.

    It prints what the code printed, control characters shown as escapes, and exits with the code's own exit code (128
    and the signal's number where one ended it). A limit or a breach that ended it is named on stderr.
    """

    source: Annotated[str, tyro.conf.Positional] = Field(
        default="", description="Python file to run. A program stands after `--` instead."
    )
    policy: str | None = Field(default=None, description="YAML file of limits; flags override it.")
    file: tuple[str, ...] = Field(
        default=(), description="Files that the code finds in its folder: PATH, or NAME=PATH for another name there."
    )
    out: str | None = Field(default=None, description="New folder to write the files to that the code left.")
    json_: Annotated[bool, tyro.conf.arg(name="json")] = Field(default=False, description="Print everything as JSON.")


def main(argv: list[str]) -> int:
    """Run the subcommand; there is one."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{USAGE}\n\n{(SandboxRun.__doc__ or '').strip()}\n\n`raysafe sandbox run --help` lists the options.")
        return 0 if argv else 2
    if argv[0] != "run":
        raise ConfigError(f"'{argv[0]}' is no subcommand of `raysafe sandbox`: it has `run`")
    options, program = _at_dashes(argv[1:])
    command = _command(options)
    if bool(command.source) == bool(program):
        raise ConfigError("name a Python file, or a program after `--`: one of the two")
    if command.out is not None and Path(command.out).exists():
        raise ConfigError(f"out: {command.out} exists: name a new folder")
    policy = Policy(**{name: getattr(command, name) for name in Policy.model_fields})
    code = program or _read(Path(command.source)).decode()
    result = run(code, policy, dict(map(_given, command.file)))
    if command.out is not None:
        write_files(result, Path(command.out))
    show(result, as_json=command.json_)
    return result.exit_code if result.exit_code >= 0 else 128 - result.exit_code


def show(result: Result, *, as_json: bool) -> None:
    """Print what the code printed, and on stderr what else there is to know."""
    if as_json:
        facts = dataclasses.asdict(result)
        print_json(facts | {"files": {name: len(content) for name, content in result.files.items()}})
        return
    print(printable(result.stdout), end="")
    print(printable(result.stderr), end="", file=sys.stderr)
    if result.limit_hit is not None:
        print(f"raysafe: the {result.limit_hit} limit was hit", file=sys.stderr)
    for breach in result.breaches:
        print(f"raysafe: breach, stopped: {breach.what}: {printable(breach.detail)}", file=sys.stderr)
    for request in result.usage.network:
        if request.verdict != ALLOWED:
            place = f"{request.host}:{request.port}" if request.host else "a request"
            print(f"raysafe: network: {printable(place)}: {request.verdict}", file=sys.stderr)
    for name, why in result.refused.items():
        print(f"raysafe: not taken out: {printable(name)}: {why}", file=sys.stderr)


def write_files(result: Result, folder: Path) -> None:
    """The files that the code left, in a new folder of this machine."""
    folder.mkdir(parents=True)
    for name, content in result.files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            file.write(content)


def _command(options: list[str]) -> SandboxRun:
    values: dict[str, Any] = {}
    for at, option in enumerate(options):
        flag, equals, value = option.partition("=")
        if flag == "--policy":
            value = value if equals else (options[at + 1] if at + 1 < len(options) else "")
            Policy.load(value)
            values = read_yaml(value)
    return tyro.cli(SandboxRun, args=options, default=SandboxRun(**values), prog="raysafe sandbox run")


def _at_dashes(argv: list[str]) -> tuple[list[str], list[str]]:
    """Options, and the program after `--`."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _given(text: str) -> tuple[str, bytes]:
    name, equals, path = text.partition("=")
    place = Path(path if equals else text)
    return (name if equals else place.name), _read(place)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
