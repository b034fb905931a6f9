"""What process 1 and the host say to each other, in as few imports as can be: a sandbox is there the sooner.

What the host says is marshalled, for its word is trusted; what it hears is JSON, as all that comes out of a sandbox.
"""

from __future__ import annotations

import marshal
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

SOL_SOCKET, SCM_RIGHTS = 1, 1


def send(peer: socket, setup: dict[str, Any]) -> None:
    """A message of the host's."""
    text = marshal.dumps(setup)
    peer.sendall(len(text).to_bytes(4, "big") + text)


def receive(control: int) -> dict[str, Any]:
    """A message of the host's; raises EOFError where it is gone."""
    return marshal.loads(receive_bytes(control, int.from_bytes(receive_bytes(control, 4), "big")))


def answer(control: socket, message: dict[str, int | str], descriptors: tuple[int, ...] = ()) -> None:
    """A message to the host, of numbers and texts; descriptors go with it."""
    text = "{" + ", ".join(f"{_quoted(name)}: {_value(value)}" for name, value in message.items()) + "}"
    rights = [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))] if descriptors else []
    control.sendmsg([len(text).to_bytes(4, "big")], rights)
    control.sendall(text.encode())


def _value(value: int | str) -> str:
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    plain = (c if c.isalnum() and c.isascii() else f"\\u{min(ord(c), 0xFFFD):04x}" for c in text)
    return f'"{"".join(plain)}"'


def receive_bytes(control: int, size: int) -> bytes:
    """Exactly `size` bytes; raises EOFError where the host is gone."""
    parts = bytearray()
    while len(parts) < size:
        part = os.read(control, min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError("the host is gone")
        parts += part
    return bytes(parts)
