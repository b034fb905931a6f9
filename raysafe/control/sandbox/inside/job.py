"""The job's own process: takes on its limits, then becomes the code that it was given."""

from __future__ import annotations

import base64
import glob
import linecache
import os
import resource
import shutil
import signal
import sys
import traceback
import types
from typing import Any, NoReturn

import kernel  # pyright: ignore[reportMissingImports]
import landlock  # pyright: ignore[reportMissingImports]

HOME = "/tmp/sandbox"
WRITABLE = ["/tmp", "/dev/shm"]
OPEN_FILES = 1024
SOURCE = "<sandbox>"
NOT_FOUND = 127
"""Exit code of a program that isn't there, as in a shell."""
LOADERS = ("/lib*/ld-linux*.so*", "/lib/ld-musl*.so*")


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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
        kernel.install_filter(base64.b64decode(setup["no_unix_sockets"]))
    if not setup["execute"] and "argv" not in order:
        kernel.install_filter(base64.b64decode(setup["no_execution"]))


def executables(setup: dict[str, Any], order: dict[str, Any]) -> list[str]:
    """What may be executed: everything; or the program that was asked for, its interpreter and loader; or nothing."""
    if setup["execute"]:
        return ["/"]
    program = shutil.which(order["argv"][0], path=os.environ["PATH"]) if "argv" in order else None
    if program is None:
        return []
    found = [os.path.realpath(program), *(path for pattern in LOADERS for path in glob.glob(pattern))]
    with open(program, "rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!"):
        found.append(os.path.realpath(first[2:].split()[0].decode()))
    return found


def execute(argv: list[str]) -> NoReturn:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND)


def run_source(source: str) -> None:
    """Run the source as `__main__`, as an interpreter would that was started for it."""
    own = os.path.dirname(__file__)
    sys.path[:] = [HOME, *(path for path in sys.path if path != own and os.path.exists(path))]
    sys.argv[:] = [SOURCE]
    # line by line: what was said before a limit ended it is worth reading
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1, "utf-8", "backslashreplace", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    linecache.cache[SOURCE] = (len(source), None, source.splitlines(keepends=True), SOURCE)

    def without_own_frames(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        while trace is not None and trace.tb_frame.f_code.co_filename != SOURCE:
            trace = trace.tb_next
        # the interpreter's own hook would look for the lines in a file
        traceback.print_exception(kind, error, trace)

    sys.excepthook = without_own_frames
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(compile(source, SOURCE, "exec", dont_inherit=True), main.__dict__)
