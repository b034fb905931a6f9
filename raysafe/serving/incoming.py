"""What an HTTP request brings beside its endpoint: a body of bounded size, a key's secret, and headers that are read
strictly or not at all.
"""

from __future__ import annotations

import asyncio
import json
import re

from fastapi import Request

from raysafe.control.capabilities import UNLIMITED, Capabilities
from raysafe.errors import ConfigError
from raysafe.serving.wire.errors import ApiError

CAPABILITIES = "X-RaySafe-Capabilities"
"""A request's header that asks for less than it could have."""
MOST_NAMES = 128
"""Most names of each kind that a request may ask for: each is compared with each that is granted."""


async def read_body(request: Request, *, most_bytes: int, limit_s: float) -> bytes:
    """The request's body, read no further than the limit; raises ApiError 413, or 408 where it doesn't come."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(limit_s):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most_bytes:
                    raise ApiError(413, f"the body is over the limit of {most_bytes:,} bytes", code="too_large")
    except TimeoutError:
        message = f"the body didn't come within {limit_s:g} s"
        raise ApiError(408, message, code="body_timeout", headers={"Connection": "close"}) from None
    return b"".join(parts)


def bearer_secret(request: Request) -> str:
    """The secret in the Authorization header; empty where there is none."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def trace_of(request: Request) -> str | None:
    """The id that the way in, or the client, has given a request: for the audit log, and so plain."""
    given = request.headers.get("x-request-id")
    return given if given is not None and re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", given) else None


def asked_capabilities(request: Request) -> Capabilities | None:
    """What a client asks to be held to; raises ApiError 400 where its header can't be read."""
    header = request.headers.get(CAPABILITIES)
    if header is None:
        return None
    try:
        values = json.loads(header)
        # what isn't named is not narrowed
        asked = Capabilities.parse({**UNLIMITED.model_dump(), **values}, CAPABILITIES)
        if max(map(len, (asked.tools, asked.domains, asked.paths, asked.data_classes))) <= MOST_NAMES:
            return asked
        message = f"{CAPABILITIES} may name {MOST_NAMES} of a kind at most"
    except (ValueError, TypeError, RecursionError):
        message = f'{CAPABILITIES} must hold a JSON object of capabilities, such as {{"autonomy": 1}}'
    except ConfigError as error:
        message = str(error)
    raise ApiError(400, message, code="invalid_capabilities", param=CAPABILITIES)
