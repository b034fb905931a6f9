"""Delivering an answer that was held and released: the guards see it again, with that one hold let pass."""

from __future__ import annotations

from typing import Any, cast

from raysafe.control.held import Hold
from raysafe.guards.decision import Decision
from raysafe.serving.answering import AnsweringSession
from raysafe.serving.refusals import withheld
from raysafe.serving.session import Post
from raysafe.serving.standing import Standing
from raysafe.serving.wire.chat import ChatFormat
from raysafe.serving.wire.completions import CompletionFormat
from raysafe.serving.wire.text import FinishReason, Written
from raysafe.serving.wire.vectors import moves_body, predictions_body


class DeliverySession(AnsweringSession):
    """One released answer; guards after the one that held it haven't seen it yet, and may stop it for good."""

    observed = False

    def __init__(self, post: Post, standing: Standing, hold: Hold) -> None:
        assert hold.held is not None and hold.reviewer is not None
        exchange = hold.held.exchange(hold)
        super().__init__(post, standing, exchange)
        self._held, self._calls = hold.held, exchange.tool_calls

    async def whole(self) -> dict[str, Any]:
        """The answer's body; raises ApiError where it is stopped now."""
        async with self._accounted():
            exchange = self._exchange
            exchange.tool_calls = ()
            if exchange.endpoint != "act":
                await self._pass(await self._check("output"))
            if self._calls:
                exchange.tool_calls = self._calls
                await self._pass(await self._check("tool_call"))
            self._outcome = "allowed"
            return self._answer()

    async def _pass(self, decision: Decision) -> None:
        await self._durable(self._ledger.decided(self._exchange, decision, delivered=True))
        if decision.stopped_by is not None:
            self._stopped(decision)
            counts = (self._held.prompt_tokens, self._held.completion_tokens)
            raise withheld(decision, await self._keep(decision, self._held.finish, counts))

    def _answer(self) -> dict[str, Any]:
        exchange, held = self._exchange, self._held
        if exchange.endpoint == "predict":
            return self._body(predictions_body, exchange.model, exchange.texts("output")[0])
        if exchange.endpoint == "act":
            return self._body(moves_body, exchange, self._post.version)
        form = (ChatFormat if exchange.endpoint == "chat" else CompletionFormat)(exchange.request_id, exchange.model)
        reason = cast(FinishReason, held.finish)
        text, calls = exchange.texts("output")[0], exchange.cleared_calls()
        return form.whole(Written(text, reason, held.prompt_tokens, held.completion_tokens, calls=calls))
