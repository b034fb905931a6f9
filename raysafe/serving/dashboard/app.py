"""The dashboard as a part of the gateway's app: its pages for who is signed in, its files, and its headers.

Every page but the sign-in asks for a session; every form bears the session's token. Model text is never read as HTML:
templates escape all they write, and the browser is told to run no script but the one file that is served here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from raysafe.errors import NotApproved, RaySafeError, StorageError
from raysafe.runtime.web import page_headers
from raysafe.serving.crowd import Crowd
from raysafe.serving.dashboard import (
    alerts_page,
    audit_page,
    entry,
    holds_page,
    interventions_page,
    kill_page,
    live_page,
    models_page,
    reviews_page,
)
from raysafe.serving.dashboard.forms import parse_form, read_form
from raysafe.serving.dashboard.office import Handler, Office, Page, Visit, html, in_thread
from raysafe.serving.dashboard.rendering import FOLDER, theme_of
from raysafe.serving.responses import as_api_error
from raysafe.serving.wire.errors import ApiError

logger = logging.getLogger(__name__)
MOST_VISITS = 64
"""Requests under way at one gateway's dashboard."""
HEADERS = page_headers(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
STATIC = ("dashboard.css", "dashboard.js", "sign.js", "mark.svg")
PAGES = (
    Page("/", live_page.show),
    Page("/exchanges/{id:path}", live_page.exchange),
    Page("/alerts", alerts_page.every, alerts_page.silences),
    Page("/alerts/{id}", alerts_page.show, alerts_page.say),
    Page("/holds", holds_page.waiting),
    Page("/holds/{id}", holds_page.show, holds_page.decide),
    Page("/models", models_page.every),
    Page("/models/{label}", models_page.show, models_page.decide),
    Page("/reviews", reviews_page.every),
    Page("/reviews/{id}", reviews_page.show, reviews_page.act),
    Page("/interventions", interventions_page.show, interventions_page.act),
    Page("/kill", kill_page.show, kill_page.act),
    Page("/audit", audit_page.show, audit_page.verify),
    Page("/sign-out", live_page.show, entry.sign_out),
    Page("/theme", live_page.show, entry.choose_theme),
)
Endpoint = Callable[[Request], Awaitable[Response]]


class Dashboard:
    """One gateway's."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._entry = entry.Entry(office)
        self._crowd = Crowd(MOST_VISITS)

    def app(self) -> Starlette:
        routes = [Route(f"/static/{name}", _static(FOLDER / "static" / name)) for name in STATIC]
        routes.append(Route("/sign-in", self._answered(self._entry.show), methods=["GET"]))
        routes.append(Route("/sign-in", self._answered(self._entry.sign_in), methods=["POST"]))
        for page in PAGES:
            routes.append(Route(page.path, self._answered(self._shown(page.show)), methods=["GET"]))
            if page.act is not None:
                routes.append(Route(page.path, self._answered(self._acted(page.show, page.act)), methods=["POST"]))
        return Starlette(
            routes=routes,
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=_secure)],
            exception_handlers={HTTPException: _http_error},
        )

    def _shown(self, show: Handler) -> Endpoint:
        async def handle(request: Request) -> Response:
            visit = await self._visit(request)
            return entry.sign_in_first(request) if visit is None else await show(visit)

        return handle

    def _acted(self, show: Handler, act: Handler) -> Endpoint:
        async def handle(request: Request) -> Response:
            visit = await self._visit(request)
            if visit is None:
                return entry.sign_in_first(request)
            visit = replace(visit, form=await read_form(request))
            if not visit.session.sent(visit.form.get("form_token")):
                raise ApiError(403, "this form isn't this session's: load the page again", code="wrong_form_token")
            try:
                return await act(visit)
            except (ApiError, RaySafeError) as error:
                status, message = _told(error)
                return await show(visit.again(message, status))

        return handle

    async def _visit(self, request: Request) -> Visit | None:
        """The visit of somebody who is signed in."""
        token = request.cookies.get(entry.SESSION_COOKIE)
        if not token:
            return None
        keys, step = self._office.plane.keys, not entry.is_renewal(request)
        session = await in_thread(self._office.sessions.find, token, keys, step=step)
        # a key that has lost its scopes opens no more than at its sign-in
        if session is None or not entry.may_enter(session.key):
            return None
        return Visit(self._office, request, session, parse_form(request.url.query))

    def _answered(self, handler: Endpoint) -> Endpoint:
        async def handle(request: Request) -> Response:
            try:
                with self._crowd.one_more():
                    return await handler(request)
            except Exception as error:
                status, message = _told(error)
                return html("error.html", theme_of(request), status, message=message, service=self._office.service)

        return handle


def _told(error: Exception) -> tuple[int, str]:
    """Status and sentence of an error; an unforeseen one is logged without its message, which may quote a prompt."""
    if isinstance(error, StorageError):
        logger.error("the dashboard can't use the store or the log: %s", error)
        return 503, "the store or the audit log can't be used; the gateway's log says why"
    if isinstance(error, NotApproved):
        return 403, str(error)
    if isinstance(error, RaySafeError):
        return 409, str(error)
    known = as_api_error(error)
    return known.status, str(known)


def _static(path: Path) -> Endpoint:
    async def send(request: Request) -> Response:
        return FileResponse(path)

    return send


async def _secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = "there is no such page" if error.status_code == 404 else error.detail
    return html("error.html", theme_of(request), error.status_code, message=message, service="")
