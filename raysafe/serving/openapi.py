"""The service's OpenAPI 3.1 schema, made of the models that parse its requests."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from raysafe import __version__
from raysafe.serving.settings import GatewaySettings
from raysafe.serving.wire.chat import ChatRequest
from raysafe.serving.wire.completions import CompletionRequest
from raysafe.serving.wire.holds import HoldDecision
from raysafe.serving.wire.vectors import ActRequest, EmbeddingRequest, PredictRequest

REQUESTS = {
    "chat/completions": (ChatRequest, "Answer a chat"),
    "completions": (CompletionRequest, "Continue a text"),
    "embeddings": (EmbeddingRequest, "Embed texts"),
    "predict": (PredictRequest, "Classify inputs"),
    "act": (ActRequest, "Choose actions"),
}
_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
_ERRORS = {
    "400": "A parameter, or what a guard of requests found",
    "401": "No key, or none of this service's",
    "403": "What this key or this model may not do",
    "404": "Another model's name, or what this model doesn't do",
    "408": "The body didn't come",
    "409": "A hold that isn't released, or waits for no decision",
    "413": "A body over the limit",
    "429": "A rate or a budget is used up",
    "503": "Closed, full, or a guard or the audit log failed",
    "504": "The model took too long",
}


def openapi(settings: GatewaySettings) -> dict[str, Any]:
    """The schema of a service; `model` is the one name that it answers to."""
    kinds = [(model, "validation") for model in (HoldDecision, *(model for model, _ in REQUESTS.values()))]
    _, schemas = models_json_schema(kinds, ref_template=_REF)  # type: ignore[arg-type]
    paths: dict[str, Any] = {
        f"/v1/{path}": {"post": _post(path, model.__name__, summary)} for path, (model, summary) in REQUESTS.items()
    }
    paths["/v1/models"] = {"get": _get("The served model")}
    named = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths["/v1/models/{name}"] = {"get": {**_get("One model, by name"), "parameters": [named]}}
    held = {**named, "name": "hold_id"}
    paths["/v1/holds"] = {"get": _get("What waits for a reviewer")}
    paths["/v1/holds/{hold_id}"] = {
        "get": {**_get("A hold, or the answer that it held once it is released"), "parameters": [held]},
        "post": {**_post("holds", HoldDecision.__name__, "Release or refuse a hold"), "parameters": [held]},
    }
    paths["/healthz"] = {"get": {**_get("Whether requests are answered now"), "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"RaySafe: {settings.model}", "version": __version__},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post(path: str, model: str, summary: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model)}}}
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if path.endswith("completions"):
        answers["text/event-stream"] = {"schema": _EVENT}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The answer", "content": answers}, **_errors()},
    }


def _get(summary: str) -> dict[str, Any]:
    answer = {"description": "The answer", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"summary": summary, "responses": {"200": answer, **_errors()}}


def _errors() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    return {status: {"description": text, "content": content} for status, text in _ERRORS.items()}
