"""The gateway: an OpenAI-compatible FastAPI app with guards before and behind the model. It needs no Ray to run.

How a stop reads to a client: a request that an input guard blocks is a 400 with code `content_policy_violation` (429
for a rate, 400 for a length, 503 for a guard that failed); an answer that an output guard blocks has finish reason
`content_filter`, empty or cut short, with the reason in `refusal`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from raysafe.config import Config
from raysafe.guards.decision import raised_at
from raysafe.guards.guard import Exchange
from raysafe.guards.policy import Policy
from raysafe.serving.backend import Backend
from raysafe.serving.keys import Key, KeyRing
from raysafe.serving.ledger import AuditWriter, Ledger
from raysafe.serving.metrics import Metrics
from raysafe.serving.openai_schema import ApiError, Chunks, model_card, parse_request
from raysafe.serving.session import Post, Put, Session

logger = logging.getLogger(__name__)


class GatewaySettings(Config):
    """What a gateway serves and how much it takes."""

    model: str = Field(min_length=1, description="The name that clients ask for.")
    policy: Policy
    keys: tuple[Key, ...] = Field(min_length=1, description="The keys that open it.")
    request_timeout_s: float = Field(default=120.0, gt=0, description="Longest generation.")
    body_bytes: int = Field(default=1 << 20, gt=0, description="Largest request body.")


def create_app(settings: GatewaySettings, backend: Backend, audit: AuditWriter) -> FastAPI:
    """The app, with a pipeline and metrics of its own; the audit log is closed, and so anchored, when the app ends."""
    return _Gateway(settings, backend, audit).app()


class Disconnected(Exception):
    """The client has gone; its generation was cancelled."""


class _Gateway:
    def __init__(self, settings: GatewaySettings, backend: Backend, audit: AuditWriter) -> None:
        self._settings = settings
        self._audit = audit
        self._keys = KeyRing(settings.keys)
        self._metrics = Metrics(settings.model)
        self._created = int(time.time())
        policy = settings.policy
        self._post = Post(
            policy.build(),
            backend,
            Ledger(audit, policy),
            self._metrics,
            settings.request_timeout_s,
            policy.stream_window,
        )

    def app(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            yield
            await asyncio.to_thread(self._audit.close)

        app = FastAPI(title="RaySafe", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], response_model=None)
        app.add_api_route("/v1/models", self.models, methods=["GET"], response_model=None)
        app.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"], response_model=None)
        app.add_api_route("/healthz", self.health, methods=["GET"], response_model=None)
        app.add_api_route("/metrics", self.metrics, methods=["GET"], response_model=None)
        app.add_exception_handler(ApiError, _answer_api_error)
        app.add_exception_handler(HTTPException, _answer_http_error)
        return app

    async def chat(self, request: Request) -> Response:
        key_id = self._authenticate(request)
        asked = parse_request(await self._body(request))
        self._check_model(asked.model)
        messages = tuple(message.message() for message in asked.messages)
        request_id = f"chatcmpl-{secrets.token_hex(12)}"
        exchange = Exchange(request_id, key_id, self._settings.model, messages, asked.token_limit)
        session = Session(self._post, exchange, asked)
        headers = {"X-Request-Id": request_id}
        if asked.stream:
            return EventStream(session.stream, headers)
        try:
            return JSONResponse(await until_disconnect(request.receive, session.whole()), headers=headers)
        except Disconnected:
            return Response(status_code=499)
        except Exception as raised:
            return _error_response(_as_api_error(raised), headers)

    async def models(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse({"object": "list", "data": [model_card(self._settings.model, self._created)]})

    async def model(self, request: Request, name: str) -> Response:
        self._authenticate(request)
        self._check_model(name)
        return JSONResponse(model_card(name, self._created))

    async def health(self) -> Response:
        """503 while the audit log can't be written, for then nothing is answered."""
        healthy = self._post.ledger.healthy
        status = "ok" if healthy else "the audit log can't be written"
        body = {"status": status, "model": self._settings.model, "policy": self._settings.policy.name}
        return JSONResponse(body, 200 if healthy else 503)

    async def metrics(self) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _authenticate(self, request: Request) -> str:
        """The id of the key in the Authorization header; raises ApiError 401."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        key_id = self._keys.identify(secret.strip()) if scheme.lower() == "bearer" and secret else None
        if key_id is None:
            self._metrics.unauthorised()
            found = "the API key is not one of this service's" if secret else "no API key was given"
            message = f"{found}; send one as 'Authorization: Bearer KEY'"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return key_id

    async def _body(self, request: Request) -> bytes:
        """The request's body, read no further than the limit; raises ApiError 413."""
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > self._settings.body_bytes:
                raise ApiError(
                    413, f"the body is over the limit of {self._settings.body_bytes:,} bytes", code="too_large"
                )
        return b"".join(parts)

    def _check_model(self, name: str) -> None:
        if name != self._settings.model:
            message = f"the model '{name}' isn't served here; '{self._settings.model}' is"
            raise ApiError(404, message, code="model_not_found", param="model")


class EventStream(Response):
    """Server-sent events. The response starts with the first event, so that what fails before it is a plain error."""

    def __init__(self, produce: Callable[[Put], Awaitable[None]], headers: dict[str, str]) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache", **headers})
        self._produce = produce
        self._request_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def put(event: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": event, "more_body": True})

        try:
            await until_disconnect(receive, self._produce(put))
        except Disconnected:
            return
        except Exception as raised:
            error = _as_api_error(raised)
            if not started:
                await _error_response(error, self._request_headers)(scope, receive, send)
                return
            await put(Chunks.event(error.body))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_disconnect(receive: Receive, work: Any) -> Any:
    """The result of `work`, which is cancelled when the client goes first; raises Disconnected."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return await task
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


def _as_api_error(raised: Exception) -> ApiError:
    """What the client is told. An unforeseen error is logged without its message, which may quote a prompt."""
    if isinstance(raised, ApiError):
        return raised
    logger.error("a request failed: %s at %s", type(raised).__name__, raised_at(raised))
    return ApiError(500, "the service failed on this request", kind="server_error", code="internal_error")


def _error_response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(error.body, ensure_ascii=False)
    return Response(content, error.status, {**error.headers, **(headers or {})}, "application/json")


async def _answer_api_error(request: Request, error: Exception) -> Response:
    return _error_response(_as_api_error(error))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path}"
    return _error_response(ApiError(error.status_code, f"{path}: {error.detail}", code="not_found"))
