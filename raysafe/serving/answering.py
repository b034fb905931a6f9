"""Answers that aren't written: embeddings, predictions of classifiers, moves of policies, through the same guards."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from raysafe.guards.guard import ACT, Stage, ToolCall
from raysafe.serving.backend import Situation
from raysafe.serving.refusals import guard_failed, withheld
from raysafe.serving.session import Session
from raysafe.serving.wire.vectors import (
    ActRequest,
    EmbeddingRequest,
    PredictRequest,
    embeddings_body,
    move_arguments,
    moves_body,
    predictions_body,
    predictions_text,
    read_numbers,
    scores_of,
)


class AnsweringSession(Session):
    """One request to a model that doesn't write."""

    async def embed(self, request: EmbeddingRequest) -> dict[str, Any]:
        """The body of an answer with embeddings. No text leaves, so that output guards have nothing to read."""
        async with self._accounted():
            await self._admit()
            async with self._working():
                found = await self._post.backend.embed(self._exchange.texts("input"))
            self._tokens = found.prompt_tokens
            row = self._ledger.answered(self._exchange, vectors=len(found.vectors))
            await self._durable(row)
            self._outcome = "allowed"
            self._post.metrics.tokens(found.prompt_tokens, 0)
            return embeddings_body(self._exchange.model, found, request.encoding_format or "float")

    async def predict(self, request: PredictRequest) -> dict[str, Any]:
        """The body of an answer with predictions, which output guards read as JSON."""
        async with self._accounted():
            await self._admit()
            texts = self._exchange.texts("input")
            inputs = await self._numbers() if request.vectors else texts
            async with self._working():
                predictions = await self._post.backend.predict(inputs)
            self._tokens = 0
            self._exchange.output = predictions_text(predictions)
            await self._decide("output")
            return self._body(predictions_body, self._exchange.model, self._exchange.texts("output")[0])

    async def act(self, request: ActRequest) -> dict[str, Any]:
        """The body of an answer with moves, each of which is a call of the tool `act` to the guards."""
        async with self._accounted():
            await self._admit()
            situation = Situation(await self._numbers(), request.deterministic, request.seed)
            async with self._working():
                moves = await self._post.backend.act(situation)
            self._tokens = 0
            exchange = self._exchange
            exchange.tool_calls = tuple(
                ToolCall(f"call_{secrets.token_hex(12)}", ACT, move_arguments(move)) for move in moves
            )
            exchange.scores, exchange.scale = scores_of(moves), moves[0].scale
            await self._decide("tool_call")
            return self._body(moves_body, exchange, self._post.version)

    async def _numbers(self) -> tuple[tuple[float, ...], ...]:
        """The lists of numbers that the input guards left."""
        try:
            return tuple(read_numbers(text) for text in self._exchange.texts("input"))
        except ValueError:
            await self._durable()
            raise guard_failed("an input guard left no list of numbers") from None

    async def _decide(self, stage: Stage) -> None:
        """The decision on the answer; raises ApiError where it is withheld, once that is durable."""
        decision = await self._check(stage)
        await self._durable(self._ledger.decided(self._exchange, decision))
        if decision.stopped_by is not None:
            self._stopped(decision)
            raise withheld(decision, await self._keep(decision))
        self._outcome = "allowed"

    def _body(self, make: Callable[..., dict[str, Any]], *parts: Any) -> dict[str, Any]:
        """The answer of what guards left; raises ApiError where they left nothing that is one."""
        try:
            return make(*parts)
        except ValueError:
            self._outcome = "failed"
            raise guard_failed("a guard left no answer of the model's kind") from None
