"""Landlock (Linux's landlock(7)) by direct system calls: what may be written, executed and connected to."""

from __future__ import annotations

import ctypes
import os
import struct

from kernel import checked, libc  # pyright: ignore[reportMissingImports]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
MAKE_CHAR, MAKE_BLOCK, REFER, TRUNCATE, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
READ = READ_FILE | READ_DIR
EVERYTHING_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
ABI_NETWORK, ABI_SCOPES = 4, 6
BIND_AND_CONNECT_TCP, CONNECT_TCP = 3, 2
ABSTRACT_SOCKETS_AND_SIGNALS = 3
RULE_PATH, RULE_PORT = 1, 2
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def abi() -> int:
    """Version of the kernel's Landlock; 0 where it has none."""
    return max(0, libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def restrict(writable: list[str], *, executable: list[str], ports: list[int]) -> None:
    """Allow reading all that is mounted, writing below `writable`, executing what is in or below `executable`.

    ports: TCP ports that may be connected to. Signals reach only processes that are restricted too.
    """
    version = abi()
    everything = EVERYTHING_BY_ABI[min(version, max(EVERYTHING_BY_ABI))]
    attributes = struct.pack(
        "<QQQ", everything, BIND_AND_CONNECT_TCP * (version >= ABI_NETWORK), ABSTRACT_SOCKETS_AND_SIGNALS
    )
    size = 24 if version >= ABI_SCOPES else 16 if version >= ABI_NETWORK else 8
    ruleset = checked(libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0), "landlock ruleset")
    written = everything & ~(EXECUTE | MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
    _allow(ruleset, "/", READ)
    for path in writable:
        _allow(ruleset, path, written)
    for path in DEVICES:
        _allow(ruleset, path, READ_FILE | WRITE_FILE)
    for path in executable:
        _allow(ruleset, path, EXECUTE)
    for port in ports if version >= ABI_NETWORK else ():
        rule = struct.pack("<QQ", CONNECT_TCP, port)
        checked(libc.syscall(ADD_RULE, ruleset, RULE_PORT, rule, 0), f"landlock rule of port {port}")
    checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("<Qi", access, place)
    checked(libc.syscall(ADD_RULE, ruleset, RULE_PATH, rule, 0), f"landlock rule of {path}")
    os.close(place)
