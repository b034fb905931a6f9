"""Seccomp filters as classic BPF (Linux's seccomp(2); instructions as in linux/bpf_common.h).

An allow-list: what isn't named fails as on a kernel that doesn't know it. Hostile calls stop at the filter's listener,
which the sandbox's keeper holds: none goes on, and each is seen. 32-bit and x32 calls count as hostile.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import NamedTuple

from raysafe.control.sandbox.syscalls import ALLOWED, BY_ARGUMENT, HOSTILE, REFUSED

LOAD_WORD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; arguments are 8 bytes each, little-endian on both architectures."""
ALLOW, NOTIFY, FAIL = 0x7FFF0000, 0x7FC00000, 0x00050000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column in the tables of syscalls.py, and AUDIT_ARCH_*."""
X32_BIT = 0x40000000

NAMESPACES = 0x7E020000 | 0x80
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and, for unshare, CLONE_NEWTIME."""
DEVICE_BIT = 0o020000
"""Set in the modes of character and block devices, and not in those of files, fifos and sockets."""
TERMINAL_INPUT = (0x5412, 0x541C, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCSETD: they put words into a terminal's mouth."""
AF_UNIX, AF_INET = 1, 2
PR_SET_MM, NEW_LISTENER = 35, 8

Code = list[tuple[int, int, int, int]]


class Target(NamedTuple):
    """The machine that a filter is for."""

    column: int
    audit: int

    @classmethod
    def here(cls) -> Target | None:
        """This machine's; none where its system calls aren't in the tables."""
        known = ARCHITECTURES.get(platform.machine())
        return cls(*known) if known else None


def sandbox_filter(target: Target, *, network: bool) -> bytes:
    """The filter under which everything in a sandbox runs. network: internet sockets, inside its empty network."""
    code: Code = [(LOAD_WORD, 0, 0, ARCH), (JUMP_EQUAL, 1, 0, target.audit), _end(NOTIFY), (LOAD_WORD, 0, 0, NUMBER)]
    if target.column == 0:
        code += [(JUMP_AT_LEAST, 0, 1, X32_BIT), _end(NOTIFY)]
    rules = _by_argument(network)
    for name, numbers in BY_ARGUMENT.items():
        code += _when(numbers[target.column], rules[name])
    for table, action in ((HOSTILE, NOTIFY), (REFUSED, FAIL | errno.EPERM), (ALLOWED, ALLOW)):
        for numbers in table.values():
            code += _when(numbers[target.column], [_end(action)])
    return _bytes([*code, _end(FAIL | errno.ENOSYS)])


def no_execution(target: Target) -> bytes:
    """A second filter that refuses to execute programs."""
    code: Code = [(LOAD_WORD, 0, 0, NUMBER)]
    for name in ("execve", "execveat"):
        code += _when(ALLOWED[name][target.column], [_end(FAIL | errno.EPERM)])
    return _bytes([*code, _end(ALLOW)])


def no_unix_sockets(target: Target) -> bytes:
    """A second filter, for jobs with a network: they don't reach sockets of the host in folders that they may read."""
    socket = BY_ARGUMENT["socket"][target.column]
    refused = _any(0, (AF_UNIX,), _end(FAIL | errno.EACCES), [_end(ALLOW)])
    return _bytes([(LOAD_WORD, 0, 0, NUMBER), *_when(socket, refused), _end(ALLOW)])


def name_of(number: int, target: Target) -> str:
    """A system call's name; its number where the tables don't know it."""
    for table in (HOSTILE, BY_ARGUMENT, REFUSED, ALLOWED):
        for name, numbers in table.items():
            if numbers[target.column] == number:
                return name
    return f"system call {number}"


def _by_argument(network: bool) -> dict[str, Code]:
    """What each of BY_ARGUMENT does; every branch returns."""
    no_access, not_here = _end(FAIL | errno.EACCES), _end(FAIL | errno.ENOSYS)
    allow, hostile, refuse = _end(ALLOW), _end(NOTIFY), _end(FAIL | errno.EPERM)
    families = (AF_UNIX, AF_INET) if network else ()
    sockets = [allow] if network else [no_access]
    return {
        "clone": _if(0, JUMP_SET, NAMESPACES & ~0x80, hostile, [allow]),
        # its flags are in memory, where a filter can't look: glibc falls back to clone
        "clone3": [not_here],
        "unshare": _if(0, JUMP_SET, NAMESPACES, hostile, [refuse]),
        "ioctl": _any(1, TERMINAL_INPUT, refuse, [allow]),
        "prctl": _any(0, (PR_SET_MM,), refuse, [allow]),
        "personality": _any(0, (0, 0xFFFFFFFF), allow, [refuse]),
        "socket": _any(0, families, allow, [no_access]),
        "socketpair": _any(0, (AF_UNIX,), allow, [no_access]),
        "mknod": _if(1, JUMP_SET, DEVICE_BIT, hostile, [allow]),
        "mknodat": _if(2, JUMP_SET, DEVICE_BIT, hostile, [allow]),
        # further filters only ever take away, but a second listener would answer in place of the first
        "seccomp": _if(1, JUMP_SET, NEW_LISTENER, refuse, [allow]),
        **dict.fromkeys(("connect", "bind", "listen", "accept", "accept4"), sockets),
    }


def _if(argument: int, jump: int, value: int, yes: tuple[int, int, int, int], no: Code) -> Code:
    """Compare the low word of an argument: the kernel reads these flags, commands and modes as 32 bits."""
    return [(LOAD_WORD, 0, 0, ARGUMENTS + 8 * argument), (jump, 0, 1, value), yes, *no]


def _any(argument: int, values: tuple[int, ...], yes: tuple[int, int, int, int], no: Code) -> Code:
    code: Code = [(LOAD_WORD, 0, 0, ARGUMENTS + 8 * argument)]
    for value in values:
        code += [(JUMP_EQUAL, 0, 1, value), yes]
    return [*code, *no]


def _when(number: int | None, then: Code) -> Code:
    return [] if number is None else [(JUMP_EQUAL, 0, len(then), number), *then]


def _end(action: int) -> tuple[int, int, int, int]:
    return (RETURN, 0, 0, action)


def _bytes(code: Code) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
