"""The OpenAI chat-completions wire format: what is accepted, what is answered, and how errors read."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from raysafe.guards.guard import Message

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ApiError(Exception):
    """An answer that is an error, in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Wire):
    type: Literal["text"]
    text: str


class ChatMessage(_Wire):
    """A message; the fields that an answer's message has beside its text may come back empty."""

    role: Literal["system", "developer", "user", "assistant"]
    # only the first mistake is named, and a body may hold a hundred thousand: the rest aren't looked for
    content: str | Annotated[list[TextPart], Field(fail_fast=True)]
    refusal: None = None
    annotations: tuple[()] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: tuple[()] | None = None

    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(_Wire):
    """`include_obfuscation` asks for padding against eavesdroppers who measure the pieces. It isn't done here, so false
    and null, which ask for none, are taken and true is refused: who counts on the padding must know."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None

    @field_validator("include_obfuscation")
    @classmethod
    def _no_padding(cls, wanted: bool | None) -> bool | None:
        if wanted:
            raise PydanticCustomError("unsupported", "streams aren't padded here; leave it out or send false")
        return wanted


class ChatRequest(_Wire):
    """What `/v1/chat/completions` takes. A parameter that would change nothing here is refused, not ignored."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, fail_fast=True)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = Field((), max_length=4, fail_fast=True)
    seed: int | None = None
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(
        default=None, description="Accepted for compatibility; requests are told apart by their key."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: Any) -> Any:
        return (stop,) if isinstance(stop, str) else stop or ()

    @field_validator("temperature", "top_p", "n", "stream", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("stream_options")
    @classmethod
    def _only_of_a_stream(cls, options: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if options is not None and info.data.get("stream") is False:
            raise PydanticCustomError("not_streamed", 'only allowed together with "stream": true')
        return options

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


def parse_request(body: bytes) -> ChatRequest:
    """The request in a body; raises ApiError 400 naming the parameter."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in problem["loc"]) or None
        if problem["type"] == "extra_forbidden":
            raise ApiError(400, f"'{param}' isn't supported here", code="unsupported_parameter", param=param) from None
        message = f"{param}: {problem['msg']}" if param else f"the body isn't a JSON request: {problem['msg']}"
        raise ApiError(400, message, code="invalid_value", param=param) from None


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def completion(
    request_id: str, model: str, text: str, finish: FinishReason, counts: dict[str, int], refusal: str | None = None
) -> dict[str, Any]:
    """The body of a whole answer; a filtered one has empty content and says why in `refusal`."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {
        "id": request_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": counts,
    }


class Chunks:
    """The events of one streamed answer, as server-sent bytes."""

    DONE = b"data: [DONE]\n\n"

    def __init__(self, request_id: str, model: str) -> None:
        created = int(time.time())
        self._frame = {"id": request_id, "object": "chat.completion.chunk", "created": created, "model": model}

    def delta(self, delta: dict[str, Any], finish: FinishReason | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self.event({**self._frame, "choices": [choice]})

    def usage(self, counts: dict[str, int]) -> bytes:
        return self.event({**self._frame, "choices": [], "usage": counts})

    @staticmethod
    def event(body: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def model_card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "raysafe"}
