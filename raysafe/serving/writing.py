"""A written answer, whole or streamed: chat and plain completions, with tool calls where tools are offered.

Text leaves as the output guards clear it. Tool calls leave together at the end, once the guards of the text and of the
calls have cleared them: a call whose end is still to come can't be judged. Calls of the service's own tool are run here
and never leave; what the model says before and after them is one answer, each round of it cleared by itself, as turns
of a conversation are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, Protocol

from raysafe.guards.decision import Decision
from raysafe.guards.gate import StreamGate
from raysafe.guards.guard import Exchange, Message, Tool
from raysafe.serving.backend import Finish, Piece, Prompt
from raysafe.serving.outlet import Outlet
from raysafe.serving.refusals import explanation
from raysafe.serving.rounds import RoundsSession
from raysafe.serving.session import Post, Put, later
from raysafe.serving.standing import Standing
from raysafe.serving.wire.text import DONE, TextFormat, Written

BETWEEN = "\n\n"
"""Between what the model said before a call and after it."""


class TextRequest(Protocol):
    """What a request for text says, whatever its wire format."""

    @property
    def stream(self) -> bool: ...

    @property
    def include_usage(self) -> bool: ...

    @property
    def token_limit(self) -> int | None: ...

    def spoken(self) -> tuple[Message, ...]: ...

    def offered(self) -> tuple[Tool, ...]: ...

    def as_prompt(self, exchange: Exchange) -> Prompt: ...


class WritingSession(RoundsSession):
    """One request for text."""

    def __init__(
        self, post: Post, standing: Standing, exchange: Exchange, request: TextRequest, form: TextFormat
    ) -> None:
        super().__init__(post, standing, exchange)
        self._request, self._form = request, form
        self.stream_mode = request.stream
        self._round_text = ""
        """What has left of this round."""
        self._spoke = False
        """Whether anything has left of a round before it."""

    async def whole(self) -> dict[str, Any]:
        """The body of a whole answer; raises ApiError."""
        async with self._accounted():
            self._check_names()
            await self._admit()
            said: list[str] = []
            decision, finish, counts, goes_on = await self._whole_round(said)
            while goes_on:
                decision, finish, counts, goes_on = await self._whole_round(said)
            text = BETWEEN.join(text for text in said if text)
            if decision.stopped_by:
                self._stopped(decision)
                why = explanation(decision, await self._keep(decision, finish, counts))
                return self._form.whole(Written(text, "content_filter", counts[0], counts[1], why))
            self._outcome = "allowed"
            self._post.metrics.tokens(*counts)
            return self._form.whole(Written(text, finish, counts[0], counts[1], calls=self._exchange.cleared_calls()))

    async def _whole_round(self, said: list[str]) -> tuple[Decision, Finish, tuple[int, int], bool]:
        """One round, whose cleared text joins `said`: its decision, its end, all tokens so far, whether it goes on."""
        async with self._working():
            answer = await self._post.backend.complete(self._with_tool(self._request.as_prompt(self._exchange)))
        counts = self._count(answer.prompt_tokens, answer.completion_tokens)
        exchange, finish = self._exchange, answer.finish_reason
        exchange.output = answer.text
        decision = await self._check("output")
        rows = [self._ledger.decided(exchange, decision, finish_reason=finish)]
        said.append("" if decision.stopped_by else exchange.texts("output")[0])
        if answer.tool_calls and not decision.stopped_by:
            exchange.tool_calls = answer.tool_calls
            decision = await self._check_calls()
            rows.append(self._ledger.decided(exchange, decision, finish_reason=finish))
        await self._durable(*rows)
        if decision.stopped_by or not self._own(exchange.tool_calls):
            return decision, finish, counts, False
        stopped = await self._go_on(said[-1], counts)
        return stopped or decision, finish, counts, stopped is None

    async def stream(self, put: Put) -> None:
        """Put the events of a streamed answer; raises ApiError."""
        async with self._accounted():
            self._check_names()
            await self._admit()
            while await self._stream_round(put):
                pass

    async def _stream_round(self, put: Put) -> bool:
        """Put one round's text as it is cleared, and the answer's end where it is the last; whether another comes."""
        gate = self._pipeline.stream(self._exchange)
        last = Piece("", 0, 0)
        pieces = self._post.backend.stream(self._with_tool(self._request.as_prompt(self._exchange)))
        policy = self._standing.policy
        outlet = Outlet(
            policy.stream_window, policy.stream_interval_s, lambda text: self._release(put, text, gate.cleared_by)
        )
        async with outlet:
            async with aclosing(pieces), self._working():
                gathered = ""
                async for last in pieces:
                    self._wrote = True
                    gathered += last.text
                    # guards cost by the call, and nothing leaves in smaller pieces
                    if not outlet.due(len(gathered)) and last.finish_reason is None:
                        continue
                    outlet.offer(await self._fed(gate, gathered))
                    gathered = ""
                    if gate.decision is not None:
                        break
                if gathered and gate.decision is None:
                    outlet.offer(await self._fed(gate, gathered))
            self._count(last.prompt_tokens, last.completion_tokens)
            rest = outlet.take_rest()
            if gate.decision is None:
                rest += await self._guarded(gate.finish, self._pipeline.inline_at("output"))
            assert gate.decision is not None
            later(self._post.metrics.decided, gate.decision)
            return await self._conclude(put, gate.decision, rest, last, outlet)

    async def _fed(self, gate: StreamGate, text: str) -> str:
        """What may leave once the guards have seen more of the answer."""
        return await self._guarded(lambda: gate.feed(text), gate.feeds_inline) if text else ""

    def _release(self, put: Put, text: str, guards: list[str]) -> Coroutine[Any, Any, None]:
        """Let cleared text go, under a row of its own, which is written now: rows stand in the order of decisions."""
        row = self._ledger.released(self._exchange, text, len(self._round_text), guards)

        async def leave() -> None:
            await self._durable(row)
            await self._put_text(put, text)

        return leave()

    async def _put_text(self, put: Put, text: str) -> None:
        before = BETWEEN if text and self._spoke and not self._round_text else ""
        self._round_text += text
        await put(self._form.text(before + text))

    async def _conclude(self, put: Put, decision: Decision, text: str, last: Piece, outlet: Outlet) -> bool:
        """The decisions on the round's text and on its calls, their rows, and what is left to send of the answer;
        whether another round follows."""
        exchange, finish = self._exchange, last.finish_reason or "stop"
        stopped = decision.stopped_by is not None
        released = outlet.sent + (0 if stopped else len(text))
        rows = [self._ledger.decided(exchange, decision, finish_reason=last.finish_reason, released=released)]
        if last.tool_calls and not stopped:
            exchange.tool_calls = last.tool_calls
            decision = await self._check_calls()
            rows.append(self._ledger.decided(exchange, decision, finish_reason=finish))
        async with asyncio.timeout(self._post.timeout_s):
            # the last release may be under way still: its row was not waited for before these were written
            await outlet.settle()
        await self._durable(*rows)
        if not stopped and (text or not (self._round_text or exchange.tool_calls)):
            await self._put_text(put, text)
        counts = self._count(last.prompt_tokens, last.completion_tokens)
        if not decision.stopped_by and self._own(exchange.tool_calls):
            said, self._round_text = self._round_text, ""
            self._spoke = self._spoke or bool(said)
            refused = await self._go_on(said, counts)
            if refused is None:
                return True
            decision = refused
        await self._end(put, decision, last.finish_reason, counts)
        return False

    async def _end(self, put: Put, decision: Decision, finish: Finish | None, counts: tuple[int, int]) -> None:
        if decision.stopped_by is not None:
            self._stopped(decision)
            # a hold ends the generation: what is kept of it is cut short
            kept = await self._keep(decision, finish or "length", counts)
            await put(self._form.end("content_filter", explanation(decision, kept)))
        else:
            self._outcome = "allowed"
            self._post.metrics.tokens(*counts)
            if self._exchange.tool_calls:
                await put(self._form.calls(self._exchange.cleared_calls()))
            await put(self._form.end(finish or "stop"))
        if self._request.include_usage:
            await put(self._form.usage(*counts))
        await put(DONE)
