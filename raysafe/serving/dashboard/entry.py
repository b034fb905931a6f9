"""Signing in with an API key, and out. The key is in no address, no log and no cookie; what is kept is a session."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from raysafe.control.keys import Key
from raysafe.serving.dashboard.forms import read_form
from raysafe.serving.dashboard.limiter import Limiter
from raysafe.serving.dashboard.office import PREFIX, Office, Visit, html, in_thread
from raysafe.serving.dashboard.rendering import THEME_COOKIE, THEMES, theme_of
from raysafe.serving.dashboard.sessions import LONGEST_S
from raysafe.serving.ledger import recorded
from raysafe.serving.wire.errors import ApiError

SESSION_COOKIE, ENTRY_COOKIE = "raysafe-session", "raysafe-entry"
RENEWAL = "X-RaySafe-Renewal"
"""A page that renews itself says so, and keeps nobody signed in."""
YEAR_S = 365 * 86400


class Entry:
    """The way in at one gateway."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._limiter = Limiter()

    async def show(self, request: Request) -> Response:
        return self._form(request, request.query_params.get("next", ""))

    async def sign_in(self, request: Request) -> Response:
        """Open a session for a reviewer's or operator's key; raises ApiError where a form didn't come from here."""
        form = await read_form(request)
        if not _from_here(request, form.get("form_token")):
            raise ApiError(403, "this form isn't from here, or is too old: open the sign-in again", code="wrong_form")
        address = request.client.host if request.client else ""
        wait_s = self._limiter.wait_s(address)
        if wait_s > 0:
            said = f"too many keys were wrong: try again in {math.ceil(wait_s)} s"
            return self._form(request, form.get("next"), said, 429, {"Retry-After": str(math.ceil(wait_s))})
        key = self._office.plane.keys.identify(form.get("key").strip())
        if key is None or not may_enter(key):
            self._limiter.failed(address)
            await self._record("sign-in refused", key.id if key else "nobody", {"address": address})
            said = "this key opens nothing here" if key is None else "this needs a reviewer's or an operator's key"
            return self._form(request, form.get("next"), said, 401 if key is None else 403)
        await self._record("signed in", key.id, {"address": address, "tenant": key.tenant, "scopes": list(key.scopes)})
        session = await in_thread(self._office.sessions.open, key)
        response = RedirectResponse(_own_path(form.get("next")), 303)
        _set_cookie(response, request, SESSION_COOKIE, session.token, LONGEST_S)
        response.delete_cookie(ENTRY_COOKIE, path=PREFIX)
        return response

    async def _record(self, kind: str, actor: str, details: dict[str, object]) -> None:
        await recorded(self._office.audit.submit(kind, actor, "dashboard", details))

    def _form(
        self,
        request: Request,
        following: str,
        problem: str | None = None,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        value = request.cookies.get(ENTRY_COOKIE) or secrets.token_urlsafe(32)
        response = html(
            "sign_in.html",
            theme_of(request),
            status,
            service=self._office.service,
            problem=problem,
            form_token=_form_token(value),
            next=following,
        )
        _set_cookie(response, request, ENTRY_COOKIE, value, 3600)
        response.headers.update(headers or {})
        return response


def may_enter(key: Key) -> bool:
    return bool({"reviewer", "operator"} & set(key.scopes))


def is_renewal(request: Request) -> bool:
    return RENEWAL in request.headers


def sign_in_first(request: Request) -> Response:
    """To the sign-in, and from there back to the page that was asked for."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    following = f"?next={quote(wanted)}" if request.method == "GET" else ""
    return RedirectResponse(f"{PREFIX}/sign-in{following}", 303)


async def sign_out(visit: Visit) -> Response:
    await recorded(visit.office.audit.submit("signed out", visit.key.id, "dashboard", {"tenant": visit.key.tenant}))
    await in_thread(visit.office.sessions.close, visit.session.token)
    response = RedirectResponse(f"{PREFIX}/sign-in", 303)
    response.delete_cookie(SESSION_COOKIE, path=PREFIX)
    return response


async def choose_theme(visit: Visit) -> Response:
    """Light, dark, or as the system has it."""
    chosen = visit.form.one_of("theme", *THEMES)
    response = RedirectResponse(_own_path(visit.form.get("next")), 303)
    _set_cookie(response, visit.request, THEME_COOKIE, chosen, YEAR_S)
    return response


def _own_path(path: str) -> str:
    """The path where it is one of the dashboard's, else its first page: nobody is sent elsewhere."""
    plain = all(" " < c < "\x7f" and c != "\\" for c in path)
    return path if plain and (path == PREFIX or path.startswith(f"{PREFIX}/")) else f"{PREFIX}/"


def _from_here(request: Request, form_token: str) -> bool:
    """Whether a sign-in form is one that this browser was sent: another site can set no cookie here."""
    value = request.cookies.get(ENTRY_COOKIE)
    return bool(value) and hmac.compare_digest(_form_token(str(value)), form_token.encode("ascii", "replace").decode())


def _form_token(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def _set_cookie(response: Response, request: Request, name: str, value: str, seconds: float) -> None:
    # behind a proxy that ends TLS the scheme is http; what it says may make the cookie stricter, never laxer
    tls = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    response.set_cookie(name, value, max_age=round(seconds), path=PREFIX, secure=tls, httponly=True, samesite="strict")
