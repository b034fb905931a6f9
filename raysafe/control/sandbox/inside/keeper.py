"""Process 1 of a sandbox: closes every door, waits for the one job, starts it, reports how it ended.

The job runs under another process, which can neither signal this one nor look into it. What this one reports of the
job's end is the kernel's word, over a socket that the job never had.
"""

from __future__ import annotations

import _socket
import os
import sys

import kernel  # pyright: ignore[reportMissingImports]
import landlock  # pyright: ignore[reportMissingImports]
import words  # pyright: ignore[reportMissingImports]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USER = 1000
"""Inside; outside it is an unprivileged user."""
HOME, TEMPORARY, SHARED = "/tmp/sandbox", "/tmp", "/dev/shm"
DEVICES = landlock.DEVICES
MASKED = ("cmdline", "config.gz", "kallsyms", "kcore", "keys", "key-users", "modules", "sched_debug", "timer_list")
"""Files in /proc that tell of the host, and of no process here."""


def keep(control_fd: int, stdout: int, stderr: int) -> None:
    """Set up, then run the job that comes; ends when the job does, or when the host is gone."""
    os.set_inheritable(control_fd, False)
    control = _socket.socket(fileno=control_fd)
    try:
        setup = words.receive(control_fd)
        listener = close_doors(setup)
        if setup["proxy"] is not None:
            import forwarder  # pyright: ignore[reportMissingImports]

            forwarder.start(*setup["proxy"])
    except (OSError, KeyError, ValueError) as error:
        words.answer(control, {"failed": str(error)})
        os._exit(1)
    home = os.open(HOME, os.O_RDONLY | os.O_DIRECTORY)
    words.answer(control, {"landlock": landlock.abi(), "inodes": used_inodes()}, (home, listener))
    os.close(home)
    os.close(listener)
    # imported while the host does its part: it takes as long as all of the above
    import waiting  # pyright: ignore[reportMissingImports]

    waiting.serve(control, setup, stdout, stderr)


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
    return kernel.install_filter(bytes.fromhex(setup["filter"]), listen=True)


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
