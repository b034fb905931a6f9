"""The job's own process: takes on its limits, then becomes the code that it was given."""

from __future__ import annotations

import os
import resource
import sys

import kernel  # pyright: ignore[reportMissingImports]
import landlock  # pyright: ignore[reportMissingImports]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

HOME = "/tmp/sandbox"
WRITABLE = ["/tmp", "/dev/shm"]
OPEN_FILES = 1024
SOURCE = "sandbox.py"
NOT_FOUND = 127
"""Exit code of a program that isn't there, as in a shell."""
LOADERS = ("ld-linux", "ld-musl")
"""How the names begin of what loads programs, in /lib or /lib64."""


def begin(setup: dict[str, Any], order: dict[str, Any], stdout: int, stderr: int, tell: int) -> None:
    """Take on the limits and run the order; a limit that can't be taken on is told, and nothing runs."""
    try:
        become(setup, order, stdout, stderr)
    except (OSError, ValueError) as error:
        os.write(tell, f"the job's limits: {error}".encode())
        os._exit(1)
    os.closerange(3, OPEN_FILES)
    if "argv" in order:
        execute(order["argv"])
    else:
        run_source(order["source"])


def become(setup: dict[str, Any], order: dict[str, Any], stdout: int, stderr: int) -> None:
    os.setsid()
    # the keeper's files in /proc are closed to the job; its own needn't be
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.environ.clear()
    os.environ.update(setup["environment"])
    os.umask(0o022)
    for name, bound in setup["rlimits"].items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(limit, (bound, bound))
    with open("/proc/self/oom_score_adj", "w") as score:
        # where memory runs out the job is ended, and its keeper lives to say so
        score.write("1000")
    if landlock.abi():
        landlock.restrict(WRITABLE, executable=executables(setup, order), ports=setup["ports"])
    elif "argv" in order and not setup["execute"]:
        raise OSError("without Landlock a program can't be kept from starting others: allow it, by execute: true")
    if setup["no_unix_sockets"] is not None:
        kernel.install_filter(bytes.fromhex(setup["no_unix_sockets"]))
    if not setup["execute"] and "argv" not in order:
        kernel.install_filter(bytes.fromhex(setup["no_execution"]))


def executables(setup: dict[str, Any], order: dict[str, Any]) -> list[str]:
    """What may be executed: everything; or the program that was asked for, its interpreter and loader; or nothing."""
    if setup["execute"]:
        return ["/"]
    program = which(order["argv"][0]) if "argv" in order else None
    if program is None:
        return []
    places = [place for place in ("/lib", "/lib64") if os.path.isdir(place)]
    loaders = [f"{place}/{name}" for place in places for name in os.listdir(place) if name.startswith(LOADERS)]
    found = [os.path.realpath(program), *loaders]
    with open(program, "rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!"):
        found.append(os.path.realpath(first[2:].split()[0].decode()))
    return found


def which(name: str) -> str | None:
    """Where the program is that execvp would start."""
    tried = [name] if "/" in name else [f"{folder}/{name}" for folder in os.environ["PATH"].split(":")]
    return next((path for path in tried if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def execute(argv: list[str]) -> NoReturn:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND)


class Source:
    """Where tracebacks find the lines."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_source(self, name: str) -> str:
        return self._text


def run_source(source: str) -> None:
    """Run the source as `__main__`, as an interpreter would that was started for it."""
    own = os.path.dirname(__file__)
    sys.path[:] = [HOME, *(path for path in sys.path if path != own and os.path.exists(path))]
    sys.argv[:] = [SOURCE]
    # line by line: what was said before a limit ended it is worth reading
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1, "utf-8", "backslashreplace", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)

    def without_own_frames(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        while trace is not None and trace.tb_frame.f_code.co_filename != SOURCE:
            trace = trace.tb_next
        # the interpreter's own hook would look for the lines in a file
        import traceback

        traceback.print_exception(kind, error, trace)

    sys.excepthook = without_own_frames
    main = type(sys)("__main__")
    main.__loader__ = Source(source)
    sys.modules["__main__"] = main
    exec(compile(source, SOURCE, "exec", dont_inherit=True), main.__dict__)
