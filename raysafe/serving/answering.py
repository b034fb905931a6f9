"""Answers that aren't written: embeddings, predictions of classifiers, moves of policies, through the same guards."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from raysafe.guards.guard import Stage, ToolCall
from raysafe.serving.refusals import guard_failed, withheld
from raysafe.serving.session import Session, later
from raysafe.serving.wire.vectors import (
    EmbeddingRequest,
    PredictRequest,
    embeddings_body,
    move_arguments,
    move_body,
    predictions_body,
    predictions_text,
    read_numbers,
)

ACT = "act"
"""The tool that a policy's moves are calls of, for the guards of actions."""


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
            later(self._post.metrics.tokens, found.prompt_tokens, 0)
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
            return self._body(predictions_body, self._exchange.texts("output")[0])

    async def act(self) -> dict[str, Any]:
        """The body of an answer with one move, which is a call of the tool `act` to the guards."""
        async with self._accounted():
            await self._admit()
            [observation] = await self._numbers()
            async with self._working():
                move = await self._post.backend.act(observation)
            self._tokens = 0
            self._exchange.tool_calls = (ToolCall(f"call_{secrets.token_hex(12)}", ACT, move_arguments(move)),)
            await self._decide("tool_call")
            [cleared], [own] = self._exchange.texts("tool_call"), self._exchange.received("tool_call")
            return self._body(move_body, cleared, own)

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

    def _body(self, make: Callable[..., dict[str, Any]], *texts: str) -> dict[str, Any]:
        """The answer of the texts that guards left; raises ApiError where they left nothing that is one."""
        try:
            return make(self._exchange.model, *texts)
        except ValueError:
            self._outcome = "failed"
            raise guard_failed("a guard left no answer of the model's kind") from None
