"""The page's HTTP side, for raters with a token. What it shows is not trusted: the page sets texts as texts, loads
nothing from elsewhere, and pictures come from the items alone, by their place and not by a path."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

from raysafe.errors import DataError, StorageError
from raysafe.feedback.desk import Desk, Turn
from raysafe.feedback.frames import read_frame
from raysafe.feedback.judgements import AlreadyJudged, Choice
from raysafe.runtime.web import page_headers

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
BODY_BYTES = 16 << 10
COMPARE, RATE = "Which one is better?", "How good is this?"
LONGEST_S = 86_400.0
HEADERS = page_headers(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Answer(BaseModel):
    """What the page sends: `choice` for a comparison, `rating` for a single item, or the choice `skip` for either."""

    model_config = ConfigDict(extra="forbid", strict=True)

    item: str = Field(max_length=200)
    choice: Literal["first", "second", "tie", "skip"] | None = None
    rating: int | None = None
    seconds: float = Field(ge=0, le=LONGEST_S, allow_inf_nan=False)


def create_app(desk: Desk, *, folder: Path, question: str | None = None) -> FastAPI:
    """The app. folder: where the frames' names start."""
    return _Pages(desk, folder, question).app()


class _Pages:
    def __init__(self, desk: Desk, folder: Path, question: str | None) -> None:
        self._desk, self._folder, self._question = desk, folder, question

    def app(self) -> FastAPI:
        app = FastAPI(title="RaySafe feedback", docs_url=None, redoc_url=None, openapi_url=None)
        for path, name in (("/", "index.html"), ("/page.js", "page.js"), ("/player.js", "player.js")):
            app.add_api_route(path, _static(name), methods=["GET"], response_model=None)
        app.add_api_route("/page.css", _static("page.css"), methods=["GET"], response_model=None)
        app.add_api_route("/api/turn", self.turn, methods=["GET"], response_model=None)
        app.add_api_route("/api/judgements", self.judge, methods=["POST"], response_model=None)
        app.add_api_route("/api/undo", self.undo, methods=["POST"], response_model=None)
        app.add_api_route("/api/frame", self.frame, methods=["GET"], response_model=None)
        app.add_exception_handler(HTTPException, _answer_error)
        app.add_exception_handler(StorageError, _answer_storage_error)
        app.middleware("http")(_secure)
        return app

    async def turn(self, request: Request) -> Response:
        """What this rater is to judge now."""
        rater = await self._rater(request)
        return JSONResponse(self._shown(await run_in_threadpool(self._desk.turn, rater)))

    async def judge(self, request: Request) -> Response:
        """Keep a judgement, then answer with the next turn; 409 where this rater has judged the item already."""
        rater = await self._rater(request)
        answer = _parse(await _body(request))
        choice, rating = self._checked(rater, answer)
        try:
            await run_in_threadpool(self._desk.judge, rater, answer.item, choice, rating, answer.seconds)
        except AlreadyJudged:
            raise HTTPException(409, "you have judged this one already") from None
        return JSONResponse(self._shown(await run_in_threadpool(self._desk.turn, rater)))

    async def undo(self, request: Request) -> Response:
        """Take this rater's latest judgement back and show its item again."""
        rater = await self._rater(request)
        if not await run_in_threadpool(self._desk.undo, rater):
            raise HTTPException(409, "there is nothing to undo")
        return JSONResponse(self._shown(await run_in_threadpool(self._desk.turn, rater)))

    async def frame(self, request: Request, item: str, side: int, index: int) -> Response:
        """One picture of an item, by the place of its side as this rater is shown it."""
        rater = await self._rater(request)
        found = self._desk.items.get(item)
        if found is None or found.kind != "frames" or not 0 <= side < len(found.sides):
            raise HTTPException(404, "there is no such item or side")
        which = self._desk.sides(rater, item)[side]
        names = found.sides["ab".index(which)].parts
        if not 0 <= index < len(names):
            raise HTTPException(404, f"this side has {len(names)} frames")
        try:
            frame = await run_in_threadpool(read_frame, self._folder, names[index])
        except DataError:
            raise HTTPException(404, "this frame's file is gone or is no picture any more") from None
        return Response(frame.content, media_type=frame.media_type)

    async def _rater(self, request: Request) -> str:
        """The rater whose token the Authorization header bears; raises 401."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = scheme.lower() == "bearer" and 0 < len(token) <= 200
        rater = await run_in_threadpool(self._desk.judgements.identify, token.strip()) if known else None
        if rater is None:
            raise HTTPException(401, "this link's token is not known: open the link that you were given")
        return rater

    def _checked(self, rater: str, answer: Answer) -> tuple[Choice, float | None]:
        """The choice by the side's own name, and the rating; raises 404 and 422."""
        item, settings = self._desk.items.get(answer.item), self._desk.settings
        if item is None:
            raise HTTPException(404, "there is no such item")
        if answer.choice == "skip" and answer.rating is None:
            return "skip", None
        if item.compares:
            if answer.choice is None or answer.rating is not None:
                raise HTTPException(422, "a comparison takes a choice: first, second, tie or skip")
            if answer.choice == "tie":
                return "tie", None
            return self._desk.sides(rater, answer.item)[0 if answer.choice == "first" else 1], None
        if answer.choice is not None or answer.rating is None or not settings.low <= answer.rating <= settings.high:
            raise HTTPException(422, f"this item takes a rating from {settings.low} to {settings.high}, or skip")
        return "rating", float(answer.rating)

    def _shown(self, turn: Turn) -> dict[str, Any]:
        """A turn as the page reads it. Which side is a and which b stays here."""
        settings = self._desk.settings
        body: dict[str, Any] = {"done": turn.done, "left": turn.left, "item": None}
        if turn.item is not None:
            body["question"] = self._question or (COMPARE if turn.item.compares else RATE)
            sides = [turn.item.sides["ab".index(which)] for which in turn.sides]
            frames = turn.item.kind == "frames"
            body["item"] = {
                "name": turn.item.name,
                "kind": turn.item.kind,
                "prompt": turn.item.prompt,
                "sides": [{"frames": len(s.parts)} if frames else {"parts": s.parts} for s in sides],
                "scale": None if turn.item.compares else [settings.low, settings.high],
            }
        return body


def _static(name: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(STATIC / name)

    return send


async def _secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _answer_storage_error(request: Request, error: Exception) -> Response:
    logger.error("%s: %s", request.url.path, error)
    return JSONResponse({"error": "nothing was kept: the server can't use its store; try again"}, 503)


async def _body(request: Request) -> bytes:
    """The body, read no further than the limit; raises 413."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise HTTPException(413, f"the body is over the limit of {BODY_BYTES:,} bytes")
    return body


def _parse(body: bytes) -> Answer:
    try:
        return Answer.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "body"
        raise HTTPException(422, f"{field}: {problem['msg']}") from None
