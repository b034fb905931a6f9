"""The listener of a sandbox's seccomp filter: hostile system calls wait here, and none is ever answered."""

from __future__ import annotations

import fcntl
import struct

from raysafe.control.sandbox.result import Breach
from raysafe.control.sandbox.seccomp import Target, name_of

RECEIVE = 0xC0502100
"""SECCOMP_IOCTL_NOTIF_RECV."""
NOTIFICATION = struct.Struct("<QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags, then number, architecture, instruction pointer and arguments."""


def breach(listener: int, target: Target) -> Breach:
    """What was attempted. The caller ends the sandbox: the process that made the call stands still until then."""
    notification = bytearray(NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, RECEIVE, notification)
    except OSError:
        return Breach("system call", "one whose process ended in the same moment")
    _, _, _, number, architecture, *_ = NOTIFICATION.unpack(notification)
    if architecture != target.audit:
        return Breach("system call", f"number {number} of another architecture")
    return Breach("system call", name_of(number, target))
