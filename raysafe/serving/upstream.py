"""A model behind any OpenAI-compatible URL, so that the gateway can stand before a service that already runs.

It runs in the gateway's own process. The endpoint isn't trusted: what it sends is bounded and parsed, and what doesn't
parse is a failure of the model. No redirect is followed, nothing is decompressed, and nothing is asked twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Literal

import httpx
from pydantic import Field, field_validator

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.judges.spec import is_loopback, safe_url
from raysafe.serving.backend import (
    Completion,
    Embeddings,
    ModelFailed,
    NotOffered,
    Overloaded,
    Piece,
    Prompt,
    WritesOnly,
)
from raysafe.serving.sse import TooLong, events
from raysafe.serving.texts import check_texts, prompt_texts
from raysafe.serving.upstream_wire import (
    CallMerger,
    Malformed,
    Usage,
    Vectors,
    Written,
    body,
    finish,
    parse,
    problem,
)

logger = logging.getLogger(__name__)
_DONE = "[DONE]"
_ERROR_BYTES = 1 << 16
_DRAIN_S = 0.05


class UpstreamSettings(Config):
    """An OpenAI-compatible endpoint and how much is let through of it."""

    base_url: str = Field(description="The endpoint, up to /v1; http on this machine only.")
    model: str = Field(min_length=1, description="The model's name there.")
    served_as: tuple[str, ...] = Field(
        default=(), description="Other names under which the endpoint may answer, such as a dated one."
    )
    api_key_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable that holds the API key."
    )
    embeddings: bool = Field(default=False, description="Whether the model embeds; by default it writes only.")
    token_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="What the endpoint's chat calls the limit of an answer."
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, description="Longest wait for a connection.")
    read_timeout_s: float = Field(default=60.0, gt=0, description="Longest silence of the endpoint.")
    pool_timeout_s: float = Field(
        default=5.0, gt=0, description="Longest wait for one of the connections; beyond it, the model is overloaded."
    )
    max_connections: int = Field(default=64, ge=1, description="Most requests under way at the same time.")
    event_bytes: int = Field(default=1 << 20, ge=1024, description="Longest event of a stream.")
    answer_bytes: int = Field(default=64 << 20, ge=1024, description="Longest answer, whole or streamed.")
    proxies: bool = Field(default=False, description="Use the proxies that the environment names.")

    @field_validator("base_url")
    @classmethod
    def _safe_url(cls, url: str) -> str:
        # the same rules as for a judge's endpoint
        return safe_url(url)


class UpstreamBackend(WritesOnly):
    """A Backend over an endpoint. Counts that the endpoint doesn't report are upper bounds, the bytes of the texts, and
    `estimated` says of how many answers."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Raises ConfigError where the API key isn't in the environment."""
        self._settings = settings
        self.estimated = 0
        self._client = httpx.AsyncClient(
            base_url=settings.base_url + "/",
            headers={"Accept-Encoding": "identity", "User-Agent": "raysafe", **_authorization(settings)},
            timeout=httpx.Timeout(
                settings.read_timeout_s, connect=settings.connect_timeout_s, pool=settings.pool_timeout_s
            ),
            limits=httpx.Limits(
                max_connections=settings.max_connections, max_keepalive_connections=settings.max_connections
            ),
            follow_redirects=False,
            # a service on this machine is never asked by way of another
            trust_env=settings.proxies and not is_loopback(settings.base_url),
        )

    async def complete(self, prompt: Prompt) -> Completion:
        path, asked = body(prompt, self._settings.model, self._settings.token_field, stream=False)
        async with self._request(path, asked) as response:
            written = parse(Written, await self._whole(response))
        self._check_model(written.model)
        if not written.choices:
            raise Malformed("the endpoint answered without a choice")
        (choice,) = written.choices
        calls = CallMerger()
        text = (choice.text or "") if prompt.raw else choice.message.text if choice.message else ""
        if not prompt.raw and choice.message:
            calls.feed(choice.message.tool_calls or [])
        found = calls.calls(prompt)
        sent = _bytes(text, *(call.arguments for call in found))
        asked_tokens, written_tokens = self._counts(written.usage, prompt, sent)
        return Completion(_text(text), asked_tokens, written_tokens, finish(choice.finish_reason, found), found)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        path, asked = body(prompt, self._settings.model, self._settings.token_field, stream=True)
        merger, reason, usage, sent, ended = CallMerger(), None, None, 0, False
        asked_bytes = _prompt_bytes(prompt)
        async with self._request(path, asked) as response:
            _check_type(response, "text/event-stream")
            limits = {"event_bytes": self._settings.event_bytes, "stream_bytes": self._settings.answer_bytes}
            async with aclosing(events(response.aiter_raw(), **limits)) as data:
                async for event in data:
                    if event == _DONE:
                        ended = True
                        break
                    written = parse(Written, event)
                    self._check_model(written.model)
                    usage = written.usage or usage
                    for choice in written.choices:
                        if reason is not None and (choice.text or (choice.delta and choice.delta.text)):
                            raise Malformed("the endpoint wrote on after its answer's end")
                        reason = choice.finish_reason or reason
                        text = (choice.text or "") if prompt.raw else choice.delta.text if choice.delta else ""
                        sent += _bytes(text)
                        if choice.delta and not prompt.raw:
                            sent += merger.feed(choice.delta.tool_calls or [])
                        if text:
                            yield Piece(_text(text), asked_bytes, sent)
                calls = merger.calls(prompt)
                yield Piece("", *self._counts(usage, prompt, sent), finish(reason, calls), calls)
                if ended:
                    # a connection that is at its end can be used again
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_DRAIN_S):
                            async for _ in data:
                                break

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        if not self._settings.embeddings:
            raise NotOffered
        check_texts(texts)
        asked = {"model": self._settings.model, "input": list(texts), "encoding_format": "float"}
        async with self._request("embeddings", asked) as response:
            content = await self._whole(response)
        # a large answer is read beside the event loop, not on it
        found = await asyncio.to_thread(parse, Vectors, content)
        self._check_model(found.model)
        rows = {one.index: tuple(one.embedding) for one in found.data}
        sizes = {len(vector) for vector in rows.values()}
        if len(found.data) != len(texts) or sorted(rows) != list(range(len(texts))) or len(sizes) > 1 or 0 in sizes:
            raise Malformed("the endpoint's embeddings aren't one vector of one size for each text")
        if found.usage is None:
            self._estimate()
        tokens = _bytes(*texts) if found.usage is None else found.usage.prompt_tokens
        return Embeddings(tuple(rows[place] for place in range(len(texts))), tokens)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _request(self, path: str, asked: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """The endpoint's answer, once its status says that it is one. Leaving early closes the connection."""
        try:
            content = json.dumps(asked, ensure_ascii=False).encode()
            headers = {"Content-Type": "application/json"}
            async with self._client.stream("POST", path, content=content, headers=headers) as response:
                if response.headers.get("content-encoding", "identity").lower() != "identity":
                    raise Malformed("the endpoint compressed its answer, which was not asked for")
                if response.status_code != 200:
                    with suppress(TooLong):
                        start = await _read(response, _ERROR_BYTES)
                        raise problem(response.status_code, response.headers, start)
                    raise problem(response.status_code, response.headers, b"")
                yield response
        except httpx.PoolTimeout as error:
            raise Overloaded from error
        except TooLong as error:
            raise Malformed(f"the endpoint sent {error}") from None
        except UnicodeError:
            raise Malformed("the endpoint's answer is no UTF-8") from None
        except httpx.HTTPError as error:
            raise ModelFailed(type(error).__name__) from error

    async def _whole(self, response: httpx.Response) -> bytes:
        _check_type(response, "application/json")
        return await _read(response, self._settings.answer_bytes)

    def _check_model(self, name: str | None) -> None:
        if name is not None and name not in (self._settings.model, *self._settings.served_as):
            raise Malformed("the endpoint answered under another model's name: see served_as")

    def _counts(self, usage: Usage | None, prompt: Prompt, sent: int) -> tuple[int, int]:
        """Tokens of prompt and answer."""
        if usage is None:
            self._estimate()
            return _prompt_bytes(prompt), sent
        return usage.prompt_tokens, usage.completion_tokens

    def _estimate(self) -> None:
        if not self.estimated:
            logger.warning(
                "%s reports no usage: tokens are counted by their upper bound, the bytes of the texts",
                self._settings.base_url,
            )
        self.estimated += 1


async def _read(response: httpx.Response, most: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > most:
            raise TooLong(f"an answer of more than {most:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _check_type(response: httpx.Response, wanted: str) -> None:
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != wanted:
        raise Malformed(f"the endpoint's answer is not of type {wanted}")


def _authorization(settings: UpstreamSettings) -> dict[str, str]:
    if settings.api_key_env is None:
        return {}
    key = os.environ.get(settings.api_key_env, "")
    if not key:
        raise ConfigError(f"the environment variable {settings.api_key_env} (api_key_env) is empty: put the key there")
    return {"Authorization": f"Bearer {key}"}


def _text(text: str) -> str:
    """The text; raises Malformed where it holds half a surrogate pair, which no reader could be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed("the endpoint's answer is no UTF-8") from None
    return text


def _bytes(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _prompt_bytes(prompt: Prompt) -> int:
    return _bytes(*prompt_texts(prompt))
