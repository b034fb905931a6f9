"""The gateway: an OpenAI-compatible FastAPI app with guards before and behind the model. It needs no Ray to run.

How a stop reads to a client: a request that an input guard blocks is a 400 with code `content_policy_violation` (429
for a rate or a budget, 400 for a length, 403 for a capability, 503 for a guard that failed); an answer that an output
guard blocks has finish reason `content_filter`, empty or cut short, with the reason in `refusal`. A service that is
full answers 503 with Retry-After, one that is closed 503 with code `service_closed`.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from raysafe.control.keys import Key, Scope
from raysafe.control.measures import Measures
from raysafe.control.trusted import TrustedModel
from raysafe.errors import ConfigError
from raysafe.guards.guard import Endpoint, Exchange, Message, Tool
from raysafe.serving.answering import AnsweringSession
from raysafe.serving.asking import Asking
from raysafe.serving.backend import Backend
from raysafe.serving.control_room import ControlRoom, Records
from raysafe.serving.crowd import Crowd
from raysafe.serving.dashboard.app import Dashboard
from raysafe.serving.dashboard.office import PREFIX, Office
from raysafe.serving.delivery import DeliverySession
from raysafe.serving.door import Door
from raysafe.serving.health import Health
from raysafe.serving.holding import HoldDesk, describe
from raysafe.serving.incoming import asked_capabilities, bearer_secret, read_body, trace_of
from raysafe.serving.metrics import Metrics
from raysafe.serving.openapi import openapi
from raysafe.serving.python_tool import PythonTool
from raysafe.serving.refusals import HOLD
from raysafe.serving.responses import EventStream, as_api_error, body_response, error_response, whole_response
from raysafe.serving.session import Post
from raysafe.serving.settings import GatewaySettings
from raysafe.serving.standing import Standing, Standings
from raysafe.serving.terms import check_terms, no_trusted_model
from raysafe.serving.trusted_backend import TrustedBackend
from raysafe.serving.wire.chat import ChatFormat, ChatRequest
from raysafe.serving.wire.completions import CompletionFormat, CompletionRequest
from raysafe.serving.wire.errors import ApiError
from raysafe.serving.wire.holds import HoldDecision
from raysafe.serving.wire.parsing import parse_body
from raysafe.serving.wire.text import TextFormat, model_card
from raysafe.serving.wire.vectors import ActRequest, EmbeddingRequest, PredictRequest
from raysafe.serving.writing import TextRequest, WritingSession

ID_PREFIXES: dict[Endpoint, str] = {
    "chat": "chatcmpl",
    "completions": "cmpl",
    "embeddings": "embd",
    "predict": "pred",
    "act": "act",
}
THREADS = 64
ASKERS: tuple[Scope, ...] = ("user", "reviewer", "operator")
"""Who may ask in a quarantine, as far as its terms let them."""
Asked = TypeVar("Asked", ChatRequest, CompletionRequest, EmbeddingRequest, PredictRequest, ActRequest)


class Gateway:
    """One gateway's routes. A handler authenticates, parses, and leaves the rest to a session."""

    def __init__(self, settings: GatewaySettings, backend: Backend, room: ControlRoom) -> None:
        self._settings, self._room = settings, room
        self._metrics = Metrics(settings.model)
        self._created = int(time.time())
        self._door = Door(room.plane)
        self._health = Health()
        self._asking = Asking(backend, settings.answer_tokens, settings.request_timeout_s)
        self._standings = Standings(settings, self._asking, room)
        crowd, self._bodies = Crowd(settings.max_requests), Crowd(settings.max_requests)
        desk = self._desk = HoldDesk(room.holds, room.audit, settings.model, settings.hold_hours)
        self._post = Post(
            backend,
            self._metrics,
            self._door,
            crowd,
            self._health,
            desk,
            settings.request_timeout_s,
            room.recorder,
            _python_tool(settings, room),
            settings.version,
        )
        if room.recorder is not None:
            room.recorder.gauge(lambda: [("resources.under_way", float(crowd.count))])
        self._degraded: Post | None = None
        """The post while an intervention lets only the trusted model answer; None where there is no such model."""
        if settings.trusted is not None:
            trusted = TrustedBackend(TrustedModel(settings.trusted, settings.request_timeout_s))
            self._degraded = replace(self._post, backend=trusted, python=None, version=None)

    def app(self) -> FastAPI:
        """The app, with a pipeline and metrics of its own; it starts and stops the control room."""

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            # guards that wait do so in these threads: the default of some per core would be a queue
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "gateway"))
            await asyncio.to_thread(self._room.start)
            self._standings.start()
            # what guards are made of stays: the collector would walk it for a tenth of a second, in some request
            gc.collect()
            gc.freeze()
            lapsing = asyncio.create_task(self._desk.watch())
            yield
            lapsing.cancel()
            await asyncio.to_thread(self._standings.stop)
            await asyncio.to_thread(self._room.stop)

        app = FastAPI(title="RaySafe", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
        for path, handler in (
            ("chat/completions", self.chat),
            ("completions", self.completions),
            ("embeddings", self.embeddings),
            ("predict", self.predict),
            ("act", self.act),
            ("holds/{hold_id}", self.decide),
        ):
            app.add_api_route(f"/v1/{path}", handler, methods=["POST"], response_model=None)
        for path, handler in (
            ("/v1/models", self.models),
            ("/v1/models/{name:path}", self.model),
            ("/v1/holds", self.holds),
            ("/v1/holds/{hold_id}", self.hold),
            ("/healthz", self.health),
            ("/metrics", self.metrics),
            ("/openapi.json", self.schema),
        ):
            app.add_api_route(path, handler, methods=["GET"], response_model=None)
        if self._room.records is not None:
            app.mount(PREFIX, self._dashboard(self._room.records))
        app.add_exception_handler(ApiError, _answer_api_error)
        app.add_exception_handler(HTTPException, _answer_http_error)
        return app

    def _dashboard(self, records: Records) -> Starlette:
        room = self._room
        office = Office(
            self._settings.model,
            records.store,
            records.audit_folder,
            room.audit,
            room.plane,
            self._desk,
            lambda: self._standings.label,
        )
        return Dashboard(office).app()

    async def chat(self, request: Request) -> Response:
        key, asked = await self._asked(request, ChatRequest)
        exchange = await self._exchange(request, key, "chat", asked.spoken(), asked.token_limit, asked.offered())
        return await self._write(request, key, exchange, asked, ChatFormat(exchange.request_id, exchange.model))

    async def completions(self, request: Request) -> Response:
        key, asked = await self._asked(request, CompletionRequest)
        exchange = await self._exchange(request, key, "completions", asked.spoken(), asked.token_limit)
        return await self._write(request, key, exchange, asked, CompletionFormat(exchange.request_id, exchange.model))

    async def embeddings(self, request: Request) -> Response:
        key, asked = await self._asked(request, EmbeddingRequest)
        session = self._answering(key, await self._exchange(request, key, "embeddings", _inputs(asked.input)))
        return await whole_response(request.receive, self._door, session.embed(asked), session.headers)

    async def predict(self, request: Request) -> Response:
        key, asked = await self._asked(request, PredictRequest)
        session = self._answering(key, await self._exchange(request, key, "predict", _inputs(asked.texts())))
        return await whole_response(request.receive, self._door, session.predict(asked), session.headers)

    async def act(self, request: Request) -> Response:
        key, asked = await self._asked(request, ActRequest)
        session = self._answering(key, await self._exchange(request, key, "act", _inputs(asked.texts())))
        return await whole_response(request.receive, self._door, session.act(asked), session.headers)

    async def models(self, request: Request) -> Response:
        self._authenticate(request, "user", "reviewer", "operator")
        return JSONResponse({"object": "list", "data": [model_card(self._settings.model, self._created)]})

    async def model(self, request: Request, name: str) -> Response:
        self._authenticate(request, "user", "reviewer", "operator")
        self._check_model(name)
        return JSONResponse(model_card(name, self._created))

    async def holds(self, request: Request) -> Response:
        key = self._authenticate(request, "reviewer", "operator")
        return body_response({"object": "list", "data": await self._desk.pending(key)})

    async def hold(self, request: Request, hold_id: str) -> Response:
        """A hold's state; to who asked, once it is released, the answer itself."""
        key = self._authenticate(request, "user", "reviewer", "operator")
        self._door.check()
        hold = await self._desk.show(key, hold_id)
        own = (hold.tenant, hold.key_id) == (key.tenant, key.id)
        if own and hold.stage != "input" and (released := await self._desk.released(hold)) is not None:
            measures = self._measures
            check_terms(measures, key)
            session = DeliverySession(self._post, self._standings.of(hold.tenant, measures), released)
            return await whole_response(request.receive, self._door, session.whole(), session.headers)
        if not own:
            await self._desk.note_reading(key, hold)
        return body_response(describe(hold, reviewer=not own, state=hold.state(datetime.now(UTC))))

    async def decide(self, request: Request, hold_id: str) -> Response:
        key = self._authenticate(request, "reviewer", "operator")
        said = parse_body(HoldDecision, await self._body(request))
        return body_response(await self._desk.decide(key, hold_id, said.outcome, said.note))

    async def health(self) -> Response:
        """503 while nothing is answered: the audit log can't be written, or the service is closed."""
        status = "ok" if self._health.audit else "the audit log can't be written"
        if self._door.shut is not None:
            status = f"closed: {self._door.shut}"
        body: dict[str, Any] = {"status": status, "model": self._settings.model, "policy": self._standings.label}
        if self._measures.in_force:
            body["interventions"] = list(self._measures.in_force)
        if self._standings.refused:
            # its reason may quote the file, and so is only in the audit log
            body["policy_file"] = "refused; the policy before it stays: the audit log says why"
        return JSONResponse(body, 200 if status == "ok" else 503)

    async def metrics(self) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def schema(self) -> Response:
        return JSONResponse(openapi(self._settings))

    async def _asked(self, request: Request, model: type[Asked]) -> tuple[Key, Asked]:
        """Who asks, and what; raises ApiError where nobody may ask now, or this one not, or not for this."""
        self._door.check()
        self._asking.here()
        key = self._authenticate(request, *(ASKERS if self._measures.quarantined else ("user",)))
        check_terms(self._measures, key)
        self._post.crowd.check()
        asked = parse_body(model, await self._body(request))
        self._check_model(asked.model)
        return key, asked

    async def _exchange(
        self,
        request: Request,
        key: Key,
        endpoint: Endpoint,
        messages: tuple[Message, ...],
        token_limit: int | None = None,
        tools: tuple[Tool, ...] = (),
    ) -> Exchange:
        request_id = f"{ID_PREFIXES[endpoint]}-{secrets.token_hex(12)}"
        exchange = Exchange(
            request_id,
            key.id,
            self._settings.model,
            messages,
            token_limit,
            tenant=key.tenant,
            endpoint=endpoint,
            tools=tools,
            asked=asked_capabilities(request),
            trace=trace_of(request),
        )
        await self._desk.present(exchange, request.headers.get(HOLD))
        return exchange

    async def _write(
        self, request: Request, key: Key, exchange: Exchange, asked: TextRequest, form: TextFormat
    ) -> Response:
        session = WritingSession(*self._terms(key), exchange, asked, form)
        if asked.stream:
            return EventStream(self._door, session.stream, session.headers)
        return await whole_response(request.receive, self._door, session.whole(), session.headers)

    def _answering(self, key: Key, exchange: Exchange) -> AnsweringSession:
        return AnsweringSession(*self._terms(key), exchange)

    @property
    def _measures(self) -> Measures:
        return self._room.plane.measures

    def _terms(self, key: Key) -> tuple[Post, Standing]:
        """What a key's request is answered by and under; raises ApiError where an intervention leaves no answer."""
        measures = self._measures
        check_terms(measures, key)
        post = self._degraded if measures.degraded else self._post
        if post is None:
            raise no_trusted_model()
        return post, self._standings.of(key.tenant, measures)

    def _authenticate(self, request: Request, *scopes: Scope) -> Key:
        """The key in the Authorization header; raises ApiError 401, or 403 where it has none of the scopes."""
        secret = bearer_secret(request)
        key = self._room.plane.keys.identify(secret) if secret else None
        if key is None:
            self._metrics.unauthorised()
            found = "the API key is not one of this service's" if secret else "no API key was given"
            message = f"{found}; send one as 'Authorization: Bearer KEY'"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if not set(scopes) & set(key.scopes):
            message = f"this takes a key of the scope {' or '.join(scopes)}; this one has {', '.join(key.scopes)}"
            raise ApiError(403, message, kind="permission_error", code="insufficient_scope")
        return key

    async def _body(self, request: Request) -> bytes:
        limits = self._settings
        # counted apart from the requests at work: who sends slowly holds up only those who are sending too
        with self._bodies.one_more():
            return await read_body(request, most_bytes=limits.body_bytes, limit_s=limits.body_timeout_s)

    def _check_model(self, name: str) -> None:
        if name != self._settings.model:
            message = f"the model '{name}' isn't served here; '{self._settings.model}' is"
            raise ApiError(404, message, code="model_not_found", param="model")


def _python_tool(settings: GatewaySettings, room: ControlRoom) -> PythonTool | None:
    """The tool that the gateway runs itself; raises ConfigError where it has nothing to run it in."""
    if settings.python_tool is None:
        return None
    if room.sandboxes is None:
        raise ConfigError("python_tool needs sandboxes, and this gateway's control room has none")
    return PythonTool.of(settings.python_tool, room.sandboxes)


def _inputs(texts: tuple[str, ...]) -> tuple[Message, ...]:
    return tuple(Message("user", text) for text in texts)


async def _answer_api_error(request: Request, error: Exception) -> Response:
    return error_response(as_api_error(error))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path}"
    headers = dict(error.headers or {})
    return error_response(ApiError(error.status_code, f"{path}: {error.detail}", code="not_found", headers=headers))
