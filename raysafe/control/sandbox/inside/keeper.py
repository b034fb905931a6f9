"""Process 1 of a sandbox: closes every door, waits for the one job, starts it, reports how it ended.

The job runs under another process, which can neither signal this one nor look into it. What this one reports of the
job's end is the kernel's word, over a socket that the job never had.
"""

from __future__ import annotations

import base64
import os
import select
import signal
import socket
import sys
from typing import Any

import forwarder  # pyright: ignore[reportMissingImports]
import job  # pyright: ignore[reportMissingImports]
import kernel  # pyright: ignore[reportMissingImports]
import landlock  # pyright: ignore[reportMissingImports]
from frames import receive, receive_bytes, send  # pyright: ignore[reportMissingImports]

USER = 1000
"""Inside; outside it is an unprivileged user."""
HOME, TEMPORARY, SHARED = "/tmp/sandbox", "/tmp", "/dev/shm"
DEVICES = landlock.DEVICES
MASKED = ("cmdline", "config.gz", "kallsyms", "kcore", "keys", "key-users", "modules", "sched_debug", "timer_list")
"""Files in /proc that tell of the host, and of no process here."""


def keep(control_fd: int, stdout: int, stderr: int) -> None:
    """Set up, then run the job that comes; ends when the job does, or when the host is gone."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    try:
        setup = receive(control)
        listener = close_doors(setup)
        if setup["proxy"] is not None:
            forwarder.start(*setup["proxy"])
    except (OSError, KeyError, ValueError) as error:
        send(control, {"failed": str(error)})
        os._exit(1)
    home = os.open(HOME, os.O_RDONLY | os.O_DIRECTORY)
    send(control, {"landlock": landlock.abi(), "inodes": used_inodes()}, (home, listener))
    os.close(home)
    os.close(listener)
    try:
        order = receive(control)
        for name, size in order["files"]:
            write_file(name, receive_bytes(control, size))
    except EOFError:
        os._exit(0)
    except OSError as error:
        send(control, {"failed": f"can't write the job's files: {error.strerror}"})
        os._exit(1)
    run(control, setup, order, stdout, stderr)


def close_doors(setup: dict[str, Any]) -> int:
    """Mount what may be written, give up every privilege, go under the filter; returns its listener."""
    if os.getpid() != 1:
        raise OSError("this is not the first process of a namespace of its own")
    mount_writable(setup)
    for name in MASKED:
        if os.path.exists(f"/proc/{name}"):
            kernel.mount("/dev/null", f"/proc/{name}", flags=kernel.MS_BIND)
    for device in DEVICES:
        # devices take writes all the same, but their modes and owners, which are the host's, can't be changed
        kernel.mount("", device, flags=kernel.READ_ONLY)
    if setup["drop_to"] is not None:
        packages = [path for path in sys.path if os.path.exists(path)]
        os.setgroups([])
        os.setresgid(*(setup["drop_to"],) * 3)
        os.setresuid(*(setup["drop_to"],) * 3)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        for path in packages:
            if not os.access(path, os.R_OK):
                raise OSError(f"unprivileged users can't read {path}: open it to them (chmod -R o+rX), or be one")
    if setup["cpus"] is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setup["cpus"]])
    kernel.leave_user_namespace(USER)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    # what runs under another process id of the same user can't open /proc/1's files or memory
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    os.chdir(HOME)
    return kernel.install_filter(base64.b64decode(setup["filter"]), listen=True)


def mount_writable(setup: dict[str, Any]) -> None:
    """One file system of bounded size, and so many files, is all that can be written."""
    covered = [(path, os.open(path, os.O_PATH)) for path in setup["below_tmp"]]
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", TEMPORARY, "tmpfs", flags, f"mode=1777,size={setup['disk_bytes']}")
    for path, place in covered:
        os.makedirs(path if os.path.isdir(f"/proc/self/fd/{place}") else os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        kernel.mount(f"/proc/self/fd/{place}", path, flags=kernel.MS_BIND)
        os.close(place)
    owner, group = (setup["drop_to"],) * 2 if setup["drop_to"] is not None else (os.getuid(), os.getgid())
    for folder in (HOME, f"{TEMPORARY}/shm"):
        os.mkdir(folder, 0o700)
        os.chown(folder, owner, group)
    kernel.mount(f"{TEMPORARY}/shm", SHARED, flags=kernel.MS_BIND)
    inodes = setup["inodes"] + used_inodes()
    kernel.mount("tmpfs", TEMPORARY, "tmpfs", flags | kernel.MS_REMOUNT, f"nr_inodes={inodes}")


def used_inodes() -> int:
    space = os.statvfs(TEMPORARY)
    return space.f_files - space.f_ffree


def write_file(name: str, content: bytes) -> None:
    """A file of the job's, by a path that the host has checked."""
    os.makedirs(os.path.dirname(os.path.join(HOME, name)), 0o755, exist_ok=True)
    with open(os.path.join(HOME, name), "xb") as file:
        file.write(content)


def run(control: socket.socket, setup: dict[str, Any], order: dict[str, Any], stdout: int, stderr: int) -> None:
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
        send(control, {"failed": problem.decode()})
        os._exit(1)
    status = wait(control, child, woken)
    send(control, {"status": status})
    # the host ends the rest: processes that the job left are none of its result
    control.recv(1)
    os._exit(0)


def wait(control: socket.socket, child: int, woken: int) -> int:
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
