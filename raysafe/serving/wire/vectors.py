"""The wire formats of models that don't write: embeddings (OpenAI's), predictions of classifiers, moves of policies."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysafe.guards.guard import Exchange
from raysafe.serving.backend import Embeddings, Move, Prediction
from raysafe.serving.wire.parsing import Wire

Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=1 << 20, fail_fast=True)]


class EmbeddingRequest(Wire):
    """What `/v1/embeddings` takes. Token ids are refused, for guards read texts."""

    model: str
    input: Annotated[tuple[str, ...], Field(min_length=1, max_length=2048, fail_fast=True)]
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


class PredictRequest(Wire):
    """What `/v1/predict` takes: texts, or vectors of numbers."""

    model: str
    inputs: (
        Annotated[tuple[str, ...], Field(min_length=1, max_length=2048, fail_fast=True)]
        | Annotated[tuple[Numbers, ...], Field(min_length=1, max_length=2048, fail_fast=True)]
    )

    @property
    def vectors(self) -> bool:
        return not isinstance(self.inputs[0], str)

    def texts(self) -> tuple[str, ...]:
        """What guards read: numbers as JSON."""
        return tuple(value if isinstance(value, str) else json.dumps(value) for value in self.inputs)


class ActRequest(Wire):
    """What `/v1/act` takes: observations, each of which gets an action."""

    model: str
    observations: Annotated[tuple[Numbers, ...], Field(min_length=1, max_length=2048, fail_fast=True)]
    deterministic: bool = True
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None

    @model_validator(mode="after")
    def _seed_has_an_effect(self) -> Self:
        if self.deterministic and self.seed is not None:
            raise ValueError("a seed has no effect on deterministic actions: leave it out, or ask for drawn ones")
        return self

    def texts(self) -> tuple[str, ...]:
        """What guards read."""
        return tuple(json.dumps(observation) for observation in self.observations)


def embeddings_body(model: str, found: Embeddings, encoding: Literal["float", "base64"]) -> dict[str, Any]:
    """base64: of 32-bit floats, little-endian, as OpenAI's client asks by default."""
    write = _packed if encoding == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": write(vector)} for i, vector in enumerate(found.vectors)]
    counts = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    return {"object": "list", "data": data, "model": model, "usage": counts}


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def predictions_text(predictions: tuple[Prediction, ...]) -> str:
    """What output guards read of predictions, and what leaves: a JSON list."""
    return json.dumps(
        [
            {"index": i, "label": p.label, "scores": p.scores, "radius": p.radius, "abstained": p.label is None}
            for i, p in enumerate(predictions)
        ],
        ensure_ascii=False,
    )


def move_arguments(move: Move) -> str:
    """A move as the arguments of a call of the tool `act`, which is what action guards read."""
    return json.dumps({"action": move.action})


def read_numbers(text: str) -> tuple[float, ...]:
    """The list of numbers in a JSON text; raises ValueError where it is something else."""
    values = json.loads(text)
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("not a list of numbers")
    return tuple(float(value) for value in values)


def predictions_body(model: str, text: str) -> dict[str, Any]:
    """The answer whose predictions guards left as `text`; raises ValueError where that is no JSON list."""
    data = json.loads(text)
    if not isinstance(data, list):
        raise ValueError("not a list of predictions")
    return {"object": "list", "data": data, "model": model}


def moves_body(exchange: Exchange, version: str | None) -> dict[str, Any]:
    """The answer with the actions as guards left them, and the policy's own scores.

    Raises ValueError where an action is of another kind than the policy's own.
    """
    pairs = zip(exchange.texts("tool_call"), exchange.received("tool_call"), strict=True)
    body = {
        "id": exchange.request_id,
        "object": "actions",
        "model": exchange.model,
        "version": version,
        "actions": [_cleared_action(cleared, original) for cleared, original in pairs],
    }
    return {**body, exchange.scale: exchange.scores} if exchange.scores else body


def scores_of(moves: Sequence[Move]) -> tuple[tuple[float, ...], ...]:
    """A row a move; none where the policy gives none."""
    return tuple(move.scores for move in moves if move.scores is not None)


def _cleared_action(arguments: str, original: str) -> int | list[float]:
    cleared, own = json.loads(arguments), json.loads(original)["action"]
    action = cleared.get("action") if isinstance(cleared, dict) else None
    if isinstance(own, int):
        alike = type(action) is int
    else:
        alike = (
            isinstance(action, list)
            and len(action) == len(own)
            and all(type(x) in (int, float) and math.isfinite(x) for x in action)
        )
    if not alike:
        raise ValueError("not an action of the policy's kind")
    return action  # type: ignore[return-value]
