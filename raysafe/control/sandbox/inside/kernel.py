"""System calls that the standard library lacks: mounts, namespaces, capabilities, seccomp."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
SECCOMP = 277 if ARM else 317
CAPSET = 91 if ARM else 126
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
READ_ONLY = MS_RDONLY | MS_REMOUNT | MS_NOSUID | MS_NOEXEC | MS_BIND
"""Changes one mount point alone."""
CLONE_NEWUSER = 0x10000000
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 4, 24, 38, 47, 4
SET_MODE_FILTER, NEW_LISTENER = 1, 8
LAST_CAPABILITY = 63


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def checked(result: int, what: str) -> int:
    """The result of a C function; raises OSError where it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [text.encode() or None for text in (source, target, kind)]
    checked(libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None), f"mount on {target}")


def prctl(option: int, value: int = 0, what: str = "prctl") -> None:
    checked(libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3), what)


def leave_user_namespace(inside: int) -> None:
    """Enter a user namespace of its own, in which this user is `inside`, and in which none can be made."""
    user, group = os.getuid(), os.getgid()
    checked(libc.unshare(CLONE_NEWUSER), "a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inside} {user} 1"), ("gid_map", f"{inside} {group} 1")):
        _write(f"/proc/self/{name}", text)
    _write("/proc/sys/user/max_user_namespaces", "0")


def drop_capabilities() -> None:
    """Give up every capability, and the means to get one back."""
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *(ctypes.c_ulong(0),) * 3)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, "ambient capabilities")
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(libc.syscall(CAPSET, header, (ctypes.c_uint32 * 6)()), "capset")
    held = [line.split()[1] for line in _lines("/proc/self/status") if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
    if any(int(mask, 16) for mask in held):
        raise OSError(f"capabilities are left: {' '.join(held)}")


def install_filter(program: bytes, *, listen: bool = False) -> int:
    """Put this process, and all that it will start, under a seccomp filter; returns its listener where asked for."""
    header = _Program(len(program) // 8, program)
    flags = ctypes.c_ulong(NEW_LISTENER if listen else 0)
    return checked(libc.syscall(SECCOMP, SET_MODE_FILTER, flags, ctypes.byref(header)), "seccomp")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()
