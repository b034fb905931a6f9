"""Answers on their way to the client: bodies, event streams, errors; and what ends a request before its answer does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from raysafe.errors import raised_at
from raysafe.serving.door import Door
from raysafe.serving.session import Put
from raysafe.serving.wire.errors import ApiError
from raysafe.serving.wire.text import encode, event

logger = logging.getLogger(__name__)
STALLED_S = 60.0
"""Longest wait for a client to take the next of a stream; its place is another's then."""


class Disconnected(Exception):
    """The client has gone; its work was cancelled."""


def body_response(body: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(body), 200, headers, "application/json")


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(error.body, ensure_ascii=True)
    return Response(content, error.status, {**error.headers, **(headers or {})}, "application/json")


async def whole_response(
    receive: Receive, door: Door, work: Coroutine[Any, Any, Any], headers: dict[str, str]
) -> Response:
    """The answer that `work` makes, or the error that it raises."""
    try:
        response = body_response(await until_ended(receive, door, work), headers)
        door.check()
        return response
    except Disconnected:
        return Response(status_code=499)
    except Exception as raised:
        return error_response(as_api_error(raised), headers)


class EventStream(Response):
    """Server-sent events. The response starts with the first event, so that what fails before it is a plain error."""

    def __init__(
        self, door: Door, produce: Callable[[Put], Coroutine[Any, Any, None]], headers: dict[str, str]
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache", **headers})
        self._door, self._produce = door, produce
        self._request_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def tell(message: Any) -> None:
            try:
                async with asyncio.timeout(STALLED_S):
                    await send(message)
            except TimeoutError:
                raise Disconnected from None

        async def put(written: bytes) -> None:
            self._door.check()
            await say(written)

        async def say(written: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
                await tell({"type": "http.response.start", "status": 200, "headers": headers})
            await tell({"type": "http.response.body", "body": written, "more_body": True})

        try:
            await until_ended(receive, self._door, self._produce(put))
        except Disconnected:
            return
        except Exception as raised:
            error = as_api_error(raised)
            if not started:
                await error_response(error, self._request_headers)(scope, receive, send)
                return
            with suppress(Disconnected):
                await say(event(error.body))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_ended(receive: Receive, door: Door, work: Awaitable[Any]) -> Any:
    """The result of `work`, which is cancelled when the client goes, or the door closes, first.

    Raises Disconnected, or the ApiError of a closed service.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    closing = door.watch()
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        # it may have closed while the body came
        door.check()
        await asyncio.wait({task, watcher, closing}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        raise door.error() if closing.done() else Disconnected
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


def as_api_error(raised: Exception) -> ApiError:
    """What the client is told. An unforeseen error is logged without its message, which may quote a prompt."""
    if isinstance(raised, ApiError):
        return raised
    logger.error("a request failed: %s at %s", type(raised).__name__, raised_at(raised))
    return ApiError(500, "the service failed on this request", kind="server_error", code="internal_error")
