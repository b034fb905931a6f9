"""One connection of a sandbox to the filtering proxy: its request is judged, its host looked up once and checked, and
bytes pass within the limits. TLS passes only to the server that the request named; what is inside it nobody sees.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from raysafe.control.sandbox.proxy.addresses import Resolve, objection
from raysafe.control.sandbox.proxy.client_hello import NotTls, read_client_hello
from raysafe.control.sandbox.proxy.http_head import MOST_BYTES, Head, Refused, read_head
from raysafe.control.sandbox.proxy.rules import NetworkRules, plain_host
from raysafe.control.sandbox.proxy.traffic import NetworkRequest, Traffic

CHUNK_BYTES = 1 << 14
_REASONS = {400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 408: "Request Timeout",
            411: "Length Required", 502: "Bad Gateway"}  # fmt: skip


class Connection:
    """Use once: `await Connection(…).serve()`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        traffic: Traffic,
        resolve: Resolve,
        own: frozenset[str],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._traffic, self._resolve, self._own = traffic, resolve, own
        self._rules: NetworkRules = traffic.rules
        self._answered = False
        """Whether the client has been answered: after that a refusal is a connection that ends."""
        self._moved_at = 0.0

    async def serve(self) -> None:
        """Answer the connection's one request, and end it."""
        request = self._traffic.begin()
        try:
            await self._pass(request)
        except Refused as refused:
            await self._tell(refused, request)
        except OSError as error:
            # either side has gone
            request.verdict = f"broken off: {type(error).__name__}"
        finally:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()

    async def _pass(self, request: NetworkRequest) -> None:
        head = read_head(await self._raw_head(), self._rules)
        request.host, request.port, request.method = head.host, head.port, head.method
        host_reader, host_writer = await self._connect(head)
        try:
            opening = await self._tls(head) if head.tunnel else head.forwarded
            await self._write(host_writer, opening)
            request.sent_bytes += len(opening)
            self._answered = True
            await self._both_ways(head, request, host_reader, host_writer)
        finally:
            host_writer.close()

    async def _raw_head(self) -> bytes:
        try:
            async with asyncio.timeout(self._rules.head_timeout_s):
                return await self._reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise Refused(408, "the request didn't come") from None
        except asyncio.IncompleteReadError:
            raise Refused(400, "the request was cut short") from None
        except asyncio.LimitOverrunError:
            raise Refused(400, f"the request's head is over {MOST_BYTES:,} bytes") from None

    async def _connect(self, head: Head) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To an address that was checked; raises Refused."""
        try:
            async with asyncio.timeout(self._rules.connect_timeout_s):
                found = await self._resolve(head.host)
                against = objection(found, self._rules.addresses, self._own)
                if against is not None:
                    raise Refused(403, f"the host {head.host} can't be reached: {against}")
                for address in found[:-1]:
                    with suppress(OSError):
                        return await asyncio.open_connection(address, head.port, limit=CHUNK_BYTES)
                return await asyncio.open_connection(found[-1], head.port, limit=CHUNK_BYTES)
        except TimeoutError:
            raise Refused(502, f"the host {head.host} doesn't answer") from None
        except (OSError, UnicodeError) as error:
            raise Refused(502, f"the host {head.host} can't be reached: {type(error).__name__}") from None

    async def _tls(self, head: Head) -> bytes:
        """Open the tunnel and take the first message of TLS, which must name the same host; raises Refused."""
        self._answered = True
        await self._write(self._writer, b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.timeout(self._rules.head_timeout_s):
                taken, name = await read_client_hello(self._reader.readexactly)
        except TimeoutError:
            raise Refused(408, "TLS didn't begin") from None
        except asyncio.IncompleteReadError:
            raise Refused(400, "TLS didn't begin") from None
        except NotTls as error:
            raise Refused(403, str(error)) from None
        if plain_host(name) != head.host:
            raise Refused(403, f"TLS asks for another server than {head.host}")
        return taken

    async def _both_ways(
        self, head: Head, request: NetworkRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Bytes in both directions until the host has ended, or both sides are silent; raises Refused, OSError."""

        async def there() -> None:
            left = None if head.tunnel else head.body_bytes
            while left != 0 and (data := await self._read(self._reader, left)):
                await self._write(writer, data)
                request.sent_bytes += len(data)
                left = None if left is None else left - len(data)
            if head.tunnel:
                writer.write_eof()
            elif await self._read(self._reader, 1):
                raise Refused(400, "a second request came on one connection")

        async def back() -> None:
            while data := await self._read(reader, None):
                await self._write(self._writer, data)
                request.received_bytes += len(data)

        tasks = asyncio.ensure_future(there()), asyncio.ensure_future(back())
        try:
            pending: set[asyncio.Future[None]] = set(tasks)
            while tasks[1] in pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, most: int | None) -> bytes:
        """Some bytes; none at the end. Raises Refused where neither side has said a word for too long."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(self._rules.idle_timeout_s):
                    return await reader.read(CHUNK_BYTES if most is None else min(most, CHUNK_BYTES))
            except TimeoutError:
                if loop.time() - self._moved_at >= self._rules.idle_timeout_s:
                    raise Refused(408, "neither side said anything more") from None

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._traffic.passing(len(data))
        writer.write(data)
        await writer.drain()
        self._moved_at = asyncio.get_running_loop().time()

    async def _tell(self, refused: Refused, request: NetworkRequest) -> None:
        request.verdict = refused.reason
        if not request.host:
            request.host, request.port, request.method = refused.host, refused.port, refused.method
        if self._answered:
            return
        body = f"{refused.reason}\n".encode()
        head = (
            f"HTTP/1.1 {refused.status} {_REASONS[refused.status]}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError, TimeoutError):
            self._writer.write(head.encode() + body)
            async with asyncio.timeout(1.0):
                await self._writer.drain()
