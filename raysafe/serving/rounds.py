"""Rounds: a model calls the service's own tool, is shown the result, and goes on, until it answers without a call.

Each round is an exchange of its own between the gateway and the model. What a tool printed is a message to the model,
and so goes by the input guards, with all that came before it; the round is counted by budgets and rates as a request
is. A row of the audit log names a program before it runs, and another its end before the model is told of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import astuple, replace

from raysafe.errors import RaySafeError
from raysafe.guards.decision import Decision
from raysafe.guards.guard import Exchange, Message, Stage, ToolCall, Verdict
from raysafe.monitoring.observation import Ended
from raysafe.serving.backend import Prompt
from raysafe.serving.python_tool import NAME, Ran, definition, is_granted, read_code, result_text
from raysafe.serving.refusals import model_error
from raysafe.serving.session import Session, later
from raysafe.serving.wire.errors import ApiError

logger = logging.getLogger(__name__)
MOST_REQUESTS = 100
"""Of a program's requests to the network, those that its row lists."""
_NOT_CODE = 'not run: the arguments must be a JSON object {"code": "…"} and nothing else'
_UNHOLDABLE = "; the service's own tool can't wait for a reviewer"


class RoundsSession(Session):
    """One request, whose model may call the service's own tool where it is granted."""

    _called = 0
    """Calls of the tool in this answer."""
    _round = 0
    _breach: Decision | None = None
    """Set where a program tried to get out of its sandbox: the answer ends."""
    _spent = (0, 0)
    """Tokens of the rounds before this one: prompts, answers."""
    _before: tuple[Exchange, ...] = ()
    """The rounds before this one."""
    _before_s = 0.0
    """The model's time in them."""

    def _check_names(self) -> None:
        """Raise ApiError where the client offers a tool of the name that is the service's own."""
        if self._post.python is not None and any(tool.name == NAME for tool in self._exchange.tools):
            raise ApiError(400, f"the tool '{NAME}' is this service's own: give yours another name", param="tools")

    def _with_tool(self, prompt: Prompt) -> Prompt:
        """The prompt of this round, with the tool where it may be called."""
        tool = self._post.python
        if self._round and prompt.tool_choice != "none":
            # what the client insisted on was for the model's first word: it would call on for ever
            prompt = replace(prompt, tool_choice="auto")
        open_choice = prompt.tool_choice in ("auto", "required") and not prompt.raw
        if tool is None or not open_choice or self._called >= tool.settings.calls:
            return prompt
        if not is_granted(self._pipeline, self._exchange, tool.settings.policy.domains):
            return prompt
        return replace(prompt, tools=(*prompt.tools, definition(tool.settings)))

    def _own(self, calls: Sequence[ToolCall]) -> bool:
        """Whether the gateway is to run any of these calls. Names of clients' tools are others."""
        return self._post.python is not None and any(call.name == NAME for call in calls)

    def _count(self, prompt_tokens: int, completion_tokens: int) -> tuple[int, int]:
        """Note what this round took; what all rounds took so far."""
        self._tokens = prompt_tokens + completion_tokens
        return self._spent[0] + prompt_tokens, self._spent[1] + completion_tokens

    async def _check_calls(self) -> Decision:
        """The decision on the calls of this round. Own ones are held for nobody: a hold blocks them."""
        decision = await self._check("tool_call")
        return _final(decision) if self._own(self._exchange.tool_calls) else decision

    async def _go_on(self, said: str, counts: tuple[int, int]) -> Decision | None:
        """Run the cleared calls and open the next round; the decision of its guards where they stop it.

        said: the round's text as it was cleared; counts: of all rounds so far. Calls of the client's tools beside them
        are left out: the model makes them again, once it knows the result, if it still wants to. Raises ApiError.
        """
        exchange = self._exchange
        own = [call for call in exchange.cleared_calls() if call.name == NAME]
        before = sum(len(message.tool_calls) + 1 for message in exchange.messages)
        calls = tuple(replace(call, id=f"call{before + at:05d}") for at, call in enumerate(own))
        results = []
        for call in calls:
            results.append(await self._result(call))
            if self._breach is not None:
                await self._durable(self._ledger.decided(exchange, self._breach))
                return self._breach
        answers = [Message("tool", text, tool_call_id=call.id) for call, text in zip(calls, results, strict=True)]
        if self._spending is not None:
            self._spending.settle(self._tokens, self._model_s)
            self._spending = None
        self._before, self._before_s = (*self._before, exchange), self._before_s + self._model_s
        self._tokens, self._model_s, self._wrote = None, 0.0, False
        self._round, self._spent = self._round + 1, counts
        # a release was for what the client said, not for what a program prints
        self._exchange = replace(
            exchange,
            messages=(*exchange.messages, Message("assistant", said, calls), *answers),
            output="",
            tool_calls=(),
            verdicts=[],
            released={},
            release=None,
        )
        return await self._admit_round()

    def _ended(self, seconds: float) -> Ended:
        """All rounds as one exchange."""
        rounds = (*self._before, self._exchange)
        whole = replace(
            self._exchange,
            output="\n".join(one.output for one in rounds if one.output),
            verdicts=[verdict for one in rounds for verdict in one.verdicts],
            tool_calls=tuple(call for one in rounds for call in one.tool_calls),
        )
        tokens = None if self._tokens is None else self._tokens + sum(self._spent)
        return Ended(whole, self._outcome, seconds, self._before_s + self._model_s, tokens)

    async def _admit_round(self) -> Decision | None:
        decision = _final(await self._guarded(lambda: self._pipeline.check(self._exchange, "input"), False))
        if not decision.stopped_by and (refused := await self._set_aside()) is not None:
            decision = Decision("input", (*decision.verdicts, refused), decision.not_run)
        later(self._post.metrics.decided, decision)
        await self._durable(self._ledger.decided(self._exchange, decision, round=self._round))
        return decision if decision.stopped_by else None

    async def _result(self, call: ToolCall) -> str:
        """What the model reads of one call."""
        tool = self._post.python
        assert tool is not None
        code = read_code(call.arguments)
        if code is None:
            return _NOT_CODE
        if self._called >= tool.settings.calls:
            return f"not run: an answer may take {tool.settings.calls} calls of this tool, and took them"
        self._called += 1
        return result_text(await self._run(code), tool.settings.output_characters)

    async def _run(self, code: str) -> Ran:
        """Run a program once the row that names it is durable; its end is durable when this returns."""
        tool, exchange, run = self._post.python, self._exchange, self._called
        assert tool is not None
        limits = {"tool": NAME, "run": run, "sandbox": tool.digest}
        await self._durable(self._ledger.running(exchange, code, **limits))
        try:
            async with asyncio.timeout(self._left_s()), tool.places:
                ran = await tool.sandboxes.arun(code)
        except BaseException as error:
            self._ledger.ran(exchange, (), tool=NAME, run=run, error=type(error).__name__)
            if isinstance(error, RaySafeError):
                logger.error("a sandbox failed: %s", error)
                raise ApiError(
                    503, "the sandbox of the tool failed", kind="server_error", code="tool_failed"
                ) from error
            if isinstance(error, TimeoutError):
                raise model_error(error, self._post.timeout_s) or error from error
            raise
        tried = [{"what": breach.what, "detail": breach.detail} for breach in ran.breaches]
        self._post.metrics.ran(ran.limit_hit, bool(tried))
        if self._post.recorder is not None:
            self._post.recorder.note("safety.sandbox_breaches", float(bool(tried)))
        rows = [self._ledger.breached(exchange, code, tool=NAME, run=run, **breach) for breach in tried]
        asked = [astuple(request) for request in ran.usage.network[:MOST_REQUESTS]]
        ended = {"exit_code": ran.exit_code, "limit_hit": ran.limit_hit, "breaches": tried, "network": asked}
        rows.append(self._ledger.ran(exchange, (ran.stdout, ran.stderr), tool=NAME, run=run, **ended))
        await self._durable(*rows)
        if tried:
            reason = f"its program tried what none in a sandbox may ({tried[0]['what']}: {tried[0]['detail']})"
            self._breach = Decision("tool_call", (Verdict("sandbox", "tool_call", "block", reason, 1.0, "capability"),))
        return ran


def _final(decision: Decision) -> Decision:
    """The decision with its hold, if it has one, as a block."""
    return replace(decision, verdicts=tuple(_blocking(verdict) for verdict in decision.verdicts))


def _blocking(verdict: Verdict) -> Verdict:
    if verdict.action != "hold":
        return verdict
    stage: Stage = verdict.stage
    return Verdict(
        verdict.guard,
        stage,
        "block",
        f"{verdict.reason}{_UNHOLDABLE}",
        verdict.score,
        verdict.category,
        elapsed_s=verdict.elapsed_s,
    )
