"""One chat request from admission to answer: guards, model and audit log in the order that keeps them honest.

The rule: a decision's audit row is durable before the first byte of its effect leaves. Rows are committed while the
model generates, so that the client seldom waits for the disk.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from raysafe.guards.decision import Decision
from raysafe.guards.guard import Exchange
from raysafe.guards.pipeline import Pipeline
from raysafe.serving.backend import Backend, ModelFailed, Piece, Prompt, PromptRefused
from raysafe.serving.ledger import Ledger
from raysafe.serving.metrics import Metrics, Outcome
from raysafe.serving.openai_schema import ApiError, ChatRequest, Chunks, FinishReason, completion, usage

T = TypeVar("T")
Put = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Post:
    """What every session at one gateway shares."""

    pipeline: Pipeline
    backend: Backend
    ledger: Ledger
    metrics: Metrics
    timeout_s: float
    stream_window: int


class Session:
    """A request that has been authenticated and parsed."""

    def __init__(self, post: Post, exchange: Exchange, request: ChatRequest) -> None:
        self._post, self._exchange, self._request = post, exchange, request
        self._started = time.perf_counter()
        self._admission: Future[Any] | None = None
        self._outcome: Outcome = "failed"
        self._released = 0

    async def whole(self) -> dict[str, Any]:
        """The body of a whole answer; raises ApiError."""
        async with self._accounted():
            await self._admit()
            async with self._generating():
                answer = await self._post.backend.complete(self._prompt())
            self._exchange.output = answer.text
            decision = await self._guarded(lambda: self._post.pipeline.check(self._exchange, "output"))
            self._post.metrics.decided(decision)
            row = self._post.ledger.decided(self._exchange, decision, finish_reason=answer.finish_reason)
            await self._durable(self._admission, row)
            counts = usage(answer.prompt_tokens, answer.completion_tokens)
            if decision.stopped_by:
                self._refuse_output(decision)
                return self._body("", "content_filter", counts, refusal=self._explain(decision))
            self._outcome = "allowed"
            self._post.metrics.tokens(answer.prompt_tokens, answer.completion_tokens)
            return self._body(self._exchange.texts("output")[0], answer.finish_reason, counts)

    async def stream(self, put: Put) -> None:
        """Put the events of a streamed answer; raises ApiError."""
        async with self._accounted():
            await self._admit()
            chunks = Chunks(self._exchange.request_id, self._exchange.model)
            gate = self._post.pipeline.stream(self._exchange)
            last = Piece("", 0, 0)
            pieces = self._post.backend.stream(self._prompt())
            outlet = _Outlet(self._post.stream_window, lambda text: self._release(put, chunks, text, gate.cleared_by))
            async with aclosing(pieces), outlet, self._generating():
                gathered = ""
                async for last in pieces:
                    gathered += last.text
                    # guards cost by the call, and nothing leaves in smaller pieces
                    if len(gathered) < self._post.stream_window and last.finish_reason is None:
                        continue
                    outlet.offer(await self._guarded(lambda text=gathered: gate.feed(text) if text else ""))
                    gathered = ""
                    if gate.decision is not None:
                        break
                if gathered and gate.decision is None:
                    outlet.offer(await self._guarded(lambda text=gathered: gate.feed(text)))
                await outlet.settle()
            rest = outlet.waiting
            if gate.decision is None:
                rest += await self._guarded(gate.finish)
            await self._conclude(put, chunks, gate.decision, rest, last)

    async def _admit(self) -> None:
        """Input guards; raises the ApiError of a refusal once its row is durable. An admission's row commits later."""
        decision = await self._guarded(lambda: self._post.pipeline.check(self._exchange, "input"))
        self._post.metrics.decided(decision)
        self._admission = self._post.ledger.decided(self._exchange, decision)
        if decision.stopped_by:
            await self._durable(self._admission)
            self._outcome = "limited" if decision.stopped_by.category == "rate" else "input_blocked"
            raise _refusal(decision)

    async def _release(self, put: Put, chunks: Chunks, text: str, guards: list[str]) -> None:
        """Let cleared text go, under a row of its own."""
        row = self._post.ledger.released(self._exchange, text, self._released, guards)
        await self._durable(self._admission, row)
        await self._put_text(put, chunks, text)

    async def _put_text(self, put: Put, chunks: Chunks, text: str) -> None:
        delta = {"content": text} if self._released else {"role": "assistant", "content": text}
        self._released += len(text)
        await put(chunks.delta(delta))

    async def _conclude(self, put: Put, chunks: Chunks, decision: Decision | None, text: str, last: Piece) -> None:
        """The decision on the whole answer, its row, and what is left to send."""
        assert decision is not None
        self._post.metrics.decided(decision)
        stopped = decision.stopped_by is not None
        released = self._released + (0 if stopped else len(text))
        row = self._post.ledger.decided(self._exchange, decision, finish_reason=last.finish_reason, released=released)
        await self._durable(self._admission, row)
        if stopped:
            self._refuse_output(decision)
            refusal: dict[str, Any] = {"refusal": self._explain(decision)}
            await put(chunks.delta(refusal if self._released else {"role": "assistant", **refusal}, "content_filter"))
        else:
            self._outcome = "allowed"
            self._post.metrics.tokens(last.prompt_tokens, last.completion_tokens)
            if text or not self._released:
                await self._put_text(put, chunks, text)
            await put(chunks.delta({}, last.finish_reason or "stop"))
        if self._request.stream_options and self._request.stream_options.include_usage:
            await put(chunks.usage(usage(last.prompt_tokens, last.completion_tokens)))
        await put(Chunks.DONE)

    def _refuse_output(self, decision: Decision) -> None:
        """Count a stopped answer; raises ApiError where it was a guard's failure that stopped it, not the answer."""
        verdict = decision.stopped_by
        if verdict is not None and verdict.category == "error":
            raise _guard_failed(verdict.reason)
        self._outcome = "output_blocked"

    def _explain(self, decision: Decision) -> str:
        verdict = decision.stopped_by
        assert verdict is not None
        what = "is held for review" if verdict.action == "hold" else "was blocked"
        return f"The answer {what} by the guard '{verdict.guard}': {verdict.reason}."

    def _body(
        self, text: str, finish: FinishReason, counts: dict[str, int], refusal: str | None = None
    ) -> dict[str, Any]:
        return completion(self._exchange.request_id, self._exchange.model, text, finish, counts, refusal)

    def _prompt(self) -> Prompt:
        request = self._request
        return Prompt(
            self._exchange.admitted(),
            request.token_limit,
            request.temperature,
            request.top_p,
            request.stop,
            request.seed,
        )

    async def _guarded(self, work: Callable[[], T]) -> T:
        """Guards that may wait run in a thread, so that they hold up their own request only."""
        return work() if self._post.pipeline.inline else await asyncio.to_thread(work)

    async def _durable(self, *rows: Future[Any] | None) -> None:
        """Wait for audit rows; raises ApiError 503 where one can't be written, for then nothing may leave."""
        try:
            for row in rows:
                if row is not None and row.done():
                    # no turn of the event loop for what is known
                    row.result()
                elif row is not None:
                    # shielded: a client that goes must not cancel the writer's row
                    await asyncio.shield(asyncio.wrap_future(row))
            self._post.ledger.healthy = True
        except Exception as error:
            self._post.ledger.healthy = False
            raise ApiError(
                503, f"the audit log can't be written: {type(error).__name__}", kind="server_error", code="audit_failed"
            ) from error

    @asynccontextmanager
    async def _generating(self) -> AsyncIterator[None]:
        """The time limit of a generation, and its errors as ApiErrors, once the admission's row is durable."""
        try:
            async with asyncio.timeout(self._post.timeout_s):
                yield
        except ApiError:
            raise
        except Exception as error:
            # an error is an answer too: it tells that the request was admitted
            await self._durable(self._admission)
            known = self._generation_error(error)
            if known is None:
                raise
            raise known from error

    def _generation_error(self, error: Exception) -> ApiError | None:
        """What the client is told of an error; None where it isn't foreseen here."""
        if isinstance(error, TimeoutError):
            limit = f"the answer took longer than {self._post.timeout_s:g} s"
            return ApiError(504, limit, kind="server_error", code="timeout")
        if isinstance(error, ModelFailed):
            message = f"the model failed on this request ({error}); try again"
            return ApiError(503, message, kind="server_error", code="model_failed")
        if isinstance(error, PromptRefused):
            self._outcome = "refused"
            return ApiError(400, error.message, code=error.code, param="messages")
        return None

    @asynccontextmanager
    async def _accounted(self) -> AsyncIterator[None]:
        self._post.metrics.under_way.inc()
        try:
            yield
        except asyncio.CancelledError:
            self._outcome = "cancelled"
            raise
        finally:
            self._post.metrics.under_way.dec()
            self._post.metrics.ended(self._request.stream, self._outcome, time.perf_counter() - self._started)


class _Outlet:
    """Cleared text on its way out: while one release's row is being committed, what comes gathers for the next."""

    def __init__(self, window: int, release: Callable[[str], Awaitable[None]]) -> None:
        self._window, self._release = window, release
        self._leaving: asyncio.Future[None] | None = None
        self._waiting: list[str] = []
        self._characters = 0

    @property
    def waiting(self) -> str:
        return "".join(self._waiting)

    def offer(self, text: str) -> None:
        """More cleared text; raises what the last release raised."""
        self._waiting.append(text)
        self._characters += len(text)
        if self._leaving is not None and self._leaving.done():
            self._leaving.result()
            self._leaving = None
        if self._leaving is None and self._characters >= self._window:
            self._leaving = asyncio.ensure_future(self._release(self.waiting))
            self._waiting, self._characters = [], 0

    async def settle(self) -> None:
        """Until the release under way has left."""
        if self._leaving is not None:
            await self._leaving
            self._leaving = None

    async def __aenter__(self) -> _Outlet:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)


def _refusal(decision: Decision) -> ApiError:
    """The error of a request that the input guards stopped."""
    verdict = decision.stopped_by
    assert verdict is not None
    if verdict.category == "rate":
        wait_s = verdict.retry_after_s or 1.0
        headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        return ApiError(429, verdict.reason, kind="requests", code="rate_limit_exceeded", headers=headers)
    if verdict.category == "length":
        return ApiError(400, verdict.reason, code="string_above_max_length", param="messages")
    if verdict.category == "error":
        return _guard_failed(verdict.reason)
    what = "is held for review" if verdict.action == "hold" else "was blocked"
    message = f"the request {what} by the guard '{verdict.guard}': {verdict.reason}"
    return ApiError(400, message, code="content_policy_violation", param="messages")


def _guard_failed(reason: str) -> ApiError:
    return ApiError(503, f"{reason}; nothing is let through", kind="server_error", code="guard_failed")
