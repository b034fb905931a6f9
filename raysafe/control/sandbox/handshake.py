"""The first message of process 1: with it come descriptors, and its process id in the kernel's words."""

from __future__ import annotations

import array
import json
import socket
import struct
from typing import Any, NamedTuple

from raysafe.control.sandbox.inside import frames

CREDENTIALS = struct.Struct("<iII")
"""struct ucred: pid, uid, gid."""
MOST_DESCRIPTORS = 4


class Greeting(NamedTuple):
    """What was said, by which process, and the descriptors that came along, which are the caller's to close."""

    message: dict[str, Any]
    pid: int
    descriptors: list[int]


def greeting(control: socket.socket) -> Greeting | None:
    """Wait for the first message; none where process 1 is gone. The socket must have SO_PASSCRED set."""
    size = array.array("i").itemsize * MOST_DESCRIPTORS
    try:
        space = socket.CMSG_SPACE(size) + socket.CMSG_SPACE(CREDENTIALS.size)
        head, ancillary, _, _ = control.recvmsg(4, space, socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC)
    except (TimeoutError, ConnectionError):
        return None
    if len(head) < 4:
        return None
    descriptors, pid = array.array("i"), 0
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        elif kind == socket.SCM_CREDENTIALS:
            pid = CREDENTIALS.unpack(data)[0]
    text = frames.receive_bytes(control, int.from_bytes(head, "big"))
    return Greeting(json.loads(text), pid, list(descriptors))
