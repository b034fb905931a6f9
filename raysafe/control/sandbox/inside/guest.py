"""Process 1 of a gVisor sandbox, on gVisor's own kernel: waits for the one job, starts it as another user, reports how
it ended and hands over the files that it left. Its standard input is the socket to the host.

No process of the job's user can signal this one or look into it: that is this kernel's word, not the host's.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from typing import Any

import job  # pyright: ignore[reportMissingImports]
import kernel  # pyright: ignore[reportMissingImports]
from frames import receive, receive_bytes, send  # pyright: ignore[reportMissingImports]
from waiting import wait, write_file  # pyright: ignore[reportMissingImports]

USER = 1000
HOME = "/tmp/sandbox"
MAX_DEPTH = 32
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def keep() -> None:
    """Set up, run the job that comes, report; ends when the host is gone."""
    control = socket.socket(fileno=os.dup(0))
    control.set_inheritable(False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        setup = receive(control)
        kernel.mount(
            "tmpfs", HOME, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=0700,size={setup['disk_bytes']}"
        )
        if os.access(os.path.dirname(HOME), os.W_OK):
            raise OSError("more can be written than the folder of bounded size")
        os.chdir(HOME)
        send(control, {"ready": True})
        order = receive(control)
        for name, size in order["files"]:
            write_file(name, receive_bytes(control, size))
        give_away()
    except EOFError:
        os._exit(0)
    except (OSError, KeyError, ValueError) as error:
        send(control, {"failed": str(error)})
        os._exit(1)
    run(control, setup, order)


def give_away() -> None:
    """Make the job's user the owner of its folder and all that is in it."""
    os.chown(HOME, USER, USER)
    for folder, folders, files in os.walk(HOME):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), USER, USER)


def run(control: socket.socket, setup: dict[str, Any], order: dict[str, Any]) -> None:
    """Start the job and wait for its end; in the job's process, returns into its code."""
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    heard, tell = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        control.detach()
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        job.begin(setup, order, 1, 2, tell)
        return
    os.close(tell)
    if problem := os.read(heard, 4096):
        send(control, {"failed": problem.decode()})
        os._exit(1)
    status = wait(control, child, woken)
    # what the job left running could change its files while they are taken
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
            os.waitpid(-1, 0)
        except (ChildProcessError, ProcessLookupError):
            break
    space = os.statvfs(HOME)
    send(control, {"status": status})
    found = Files()
    found.folder(os.open(HOME, FLAGS | os.O_DIRECTORY), "", 0)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    left = {"refused": found.refused, "inodes": found.inodes, "disk_bytes": used, "full": space.f_bfree == 0}
    send(control, {"files": [[name, len(content)] for name, content in found.files.items()], **left})
    for content in found.files.values():
        control.sendall(content)
    control.recv(1)
    os._exit(0)


class Files:
    """The regular files of one name below a folder; every step is relative to an open folder and follows no link."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refused: dict[str, str] = {}
        self.inodes = 0

    def folder(self, folder: int, path: str, depth: int) -> None:
        for name in sorted(os.listdir(folder)):
            here = f"{path}/{name}" if path else name
            self.inodes += 1
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                if depth >= MAX_DEPTH:
                    self.refused[ascii(here)] = f"more than {MAX_DEPTH} folders inside each other"
                    continue
                self.folder(os.open(name, FLAGS | os.O_DIRECTORY, dir_fd=folder), here, depth + 1)
            elif not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or not here.isprintable():
                self.refused[ascii(here)] = "no regular file of one plain name"
            else:
                with open(os.open(name, FLAGS, dir_fd=folder), "rb") as file:
                    self.files[here] = file.read()
        os.close(folder)
