"""Messages over a stream socket: the length in four bytes, then JSON."""

from __future__ import annotations

import json
import socket
from typing import Any


def send(peer: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send a message; file descriptors go with it."""
    text = json.dumps(message).encode()
    head = len(text).to_bytes(4, "big")
    if descriptors:
        socket.send_fds(peer, [head], descriptors)
    else:
        peer.sendall(head)
    peer.sendall(text)


def receive(peer: socket.socket) -> dict[str, Any]:
    """The next message; raises EOFError where the other side is gone."""
    return json.loads(receive_bytes(peer, int.from_bytes(receive_bytes(peer, 4), "big")))


def receive_bytes(peer: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes; raises EOFError."""
    parts = bytearray()
    while len(parts) < size:
        part = peer.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError("the other side is gone")
        parts += part
    return bytes(parts)
