"""Server-sent events from a server that isn't trusted: lines, events and the whole stream are bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator


class TooLong(Exception):
    """The server sent more than it may."""


async def events(chunks: AsyncIterator[bytes], *, event_bytes: int, stream_bytes: int) -> AsyncGenerator[str]:
    """The data of each event (WHATWG, HTML 9.2.6), comments and other fields left out; one without its end is dropped.

    event_bytes bounds a line as well. Raises TooLong, and UnicodeDecodeError where data is no UTF-8.
    """
    data: list[bytes] = []
    held = 0
    async for line in _lines(chunks, event_bytes, stream_bytes):
        if line:
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
                held += len(line)
                if held > event_bytes:
                    raise TooLong(f"an event of more than {event_bytes:,} bytes")
        elif data:
            yield b"\n".join(data).decode("utf-8")
            data, held = [], 0


async def _lines(chunks: AsyncIterator[bytes], line_bytes: int, stream_bytes: int) -> AsyncGenerator[bytes]:
    """Lines that end in LF, CRLF or CR; linear in what is sent, however it is cut."""
    begun: list[bytes] = []
    length = total = 0
    after_cr = False
    async for chunk in chunks:
        total += len(chunk)
        if total > stream_bytes:
            raise TooLong(f"a stream of more than {stream_bytes:,} bytes")
        if after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        elif not chunk:
            continue
        after_cr = chunk.endswith(b"\r")
        *ended, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for part in ended:
            if length + len(part) > line_bytes:
                raise TooLong(f"a line of more than {line_bytes:,} bytes")
            yield b"".join([*begun, part])
            begun, length = [], 0
        begun.append(rest)
        length += len(rest)
        if length > line_bytes:
            raise TooLong(f"a line of more than {line_bytes:,} bytes")
