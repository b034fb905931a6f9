"""Process 1 once its doors are closed: takes the one order, starts the job, tells how it ended."""

from __future__ import annotations

# signal and socket without their enumerations, which take as long to import as all the rest
import _signal as signal  # pyright: ignore[reportMissingImports]
import os
import select

import job  # pyright: ignore[reportMissingImports]
from words import answer, receive, receive_bytes  # pyright: ignore[reportMissingImports]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

HOME = "/tmp/sandbox"


def serve(control: socket, setup: dict[str, Any], stdout: int, stderr: int) -> None:
    """Run the job that comes; ends when the job does, or when the host is gone."""
    try:
        order = receive(control.fileno())
        for name, size in order["files"]:
            write_file(name, receive_bytes(control.fileno(), size))
    except EOFError:
        os._exit(0)
    except OSError as error:
        answer(control, {"failed": f"can't write the job's files: {error.strerror}"})
        os._exit(1)
    run(control, setup, order, stdout, stderr)


def write_file(name: str, content: bytes) -> None:
    """A file of the job's, by a path that the host has checked."""
    os.makedirs(os.path.dirname(os.path.join(HOME, name)), 0o755, exist_ok=True)
    with open(os.path.join(HOME, name), "xb") as file:
        file.write(content)


def run(control: socket, setup: dict[str, Any], order: dict[str, Any], stdout: int, stderr: int) -> None:
    """Start the job and wait for its end; in the job's process, returns into its code."""
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    heard, tell = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        control.detach()
        job.begin(setup, order, stdout, stderr, tell)
        return
    os.close(tell)
    if problem := os.read(heard, 4096):
        answer(control, {"failed": problem.decode()})
        os._exit(1)
    status = wait(control, child, woken)
    answer(control, {"status": status})
    # the host ends the rest: processes that the job left are none of its result
    control.recv(1)
    os._exit(0)


def wait(control: socket, child: int, woken: int) -> int:
    """The wait status of `child`; reaps whatever else ends here. Ends with the host."""
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    waiting.register(woken, select.POLLIN)
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            return status
        # orphans without end are reaped one by one: the host's end is seen between any two
        for descriptor, _ in waiting.poll(0 if ended else None):
            if descriptor == woken:
                os.read(woken, 4096)
            elif not control.recv(1):
                os._exit(0)
