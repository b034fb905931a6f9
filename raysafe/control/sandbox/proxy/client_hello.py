"""The server name that a TLS client asks for, from its first message (RFC 8446, 4.1.2; RFC 6066, 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ENCRYPTED_HELLO = 0, 0xFE0D
_MOST_RECORD, _MOST_HELLO, _MOST_RECORDS = 1 << 14, 1 << 16, 64

Read = Callable[[int], Awaitable[bytes]]
"""Reads exactly so many bytes."""


class NotTls(Exception):
    """What a client sent begins no TLS connection, or one whose server can't be told."""


async def read_client_hello(read: Read) -> tuple[bytes, str]:
    """(all bytes read, the server name); raises NotTls. The message may be spread over several records."""
    taken, message = bytearray(), bytearray()
    wanted, records = 4, 0
    while len(message) < wanted:
        head = await read(5)
        size = int.from_bytes(head[3:5])
        if head[0] != _HANDSHAKE or head[1] != 3 or not 0 < size <= _MOST_RECORD:
            raise NotTls("what was sent is not TLS")
        record = await read(size)
        taken += head + record
        message += record
        records += 1
        if records > _MOST_RECORDS:
            raise NotTls("the beginning of TLS comes in too many pieces")
        if len(message) >= 4:
            wanted = 4 + int.from_bytes(message[1:4])
            if message[0] != _CLIENT_HELLO or wanted > _MOST_HELLO:
                raise NotTls("what was sent is not the beginning of TLS")
    if len(message) > wanted:
        raise NotTls("more was sent with the beginning of TLS than belongs there")
    return bytes(taken), server_name(bytes(message[4:]))


def server_name(hello: bytes) -> str:
    """The name in a ClientHello's body; raises NotTls where there isn't exactly one, or the true one is encrypted."""
    body = _Reader(hello)
    body.take(2 + 32)
    body.vector(1)
    body.vector(2)
    body.vector(1)
    extensions = _Reader(body.vector(2))
    names: list[bytes] = []
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _ENCRYPTED_HELLO:
            raise NotTls("the server's name is encrypted, and so can't be checked")
        if kind == _SERVER_NAME:
            listed = _Reader(_Reader(content).vector(2))
            while listed.left:
                if listed.number(1) != 0:
                    raise NotTls("the server's name is of an unknown kind")
                names.append(listed.vector(2))
    if len(names) != 1:
        raise NotTls("the server isn't named" if not names else "more than one server is named")
    return names[0].decode("latin-1")


class _Reader:
    """Numbers and vectors off a buffer, in TLS's presentation language."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise NotTls("the beginning of TLS is cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))
