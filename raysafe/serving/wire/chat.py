"""The OpenAI chat-completions wire format: what is accepted and what is answered."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from raysafe.guards.guard import Exchange, Message, Tool, ToolCall
from raysafe.serving.backend import Prompt
from raysafe.serving.wire.parsing import Wire
from raysafe.serving.wire.sampling import SampledRequest
from raysafe.serving.wire.text import FinishReason, Written, event, usage

NAME = r"^[A-Za-z0-9_-]{1,64}$"


class TextPart(Wire):
    type: Literal["text"]
    text: str


class CalledFunction(Wire):
    name: str = Field(pattern=NAME)
    arguments: str


class Called(Wire):
    """A tool call of an earlier answer, sent back as part of the conversation."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Wire):
    """A message; the fields that an answer's message has beside its text may come back empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    # only the first mistake is named, and a body may hold a hundred thousand: the rest aren't looked for
    content: str | Annotated[list[TextPart], Field(fail_fast=True)] | None = None
    tool_calls: Annotated[tuple[Called, ...], Field(fail_fast=True)] | None = None
    tool_call_id: str | None = Field(default=None, max_length=256)
    refusal: None = None
    annotations: tuple[()] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError("role", "only an assistant's message has tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise PydanticCustomError("role", "a tool's message, and no other, needs the tool_call_id that it answers")
        if self.content is None and not self.tool_calls:
            raise PydanticCustomError("content", "content is required, except beside an assistant's tool_calls")
        return self

    def message(self, own: Callable[[str], str]) -> Message:
        """own: the id that a call is given instead of the client's."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        calls = tuple(
            ToolCall(own(call.id), call.function.name, call.function.arguments) for call in self.tool_calls or ()
        )
        answers = None if self.tool_call_id is None else own(self.tool_call_id)
        return Message("system" if self.role == "developer" else self.role, text, calls, answers)


class OfferedFunction(Wire):
    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Literal[False] | None = None


class Offered(Wire):
    type: Literal["function"]
    function: OfferedFunction

    def tool(self) -> Tool:
        return Tool(self.function.name, json.dumps(self.function.model_dump(exclude_none=True), ensure_ascii=False))


class ChosenFunction(Wire):
    name: str


class Chosen(Wire):
    type: Literal["function"]
    function: ChosenFunction


class ResponseFormat(Wire):
    type: Literal["text"]


class ChatRequest(SampledRequest):
    """What `/v1/chat/completions` takes."""

    messages: list[ChatMessage] = Field(min_length=1, fail_fast=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1 << 31)
    tools: Annotated[tuple[Offered, ...], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: Literal["auto", "none", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    logprobs: Literal[False] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _tools_fit(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise PydanticCustomError("tools", "two tools have the same name")
        if not names and self.tool_choice not in (None, "auto", "none"):
            raise PydanticCustomError("tools", "tool_choice asks for a tool, and no tools are given")
        if isinstance(self.tool_choice, Chosen) and self.tool_choice.function.name not in names:
            raise PydanticCustomError("tools", "tool_choice names a tool that isn't among tools")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def spoken(self) -> tuple[Message, ...]:
        """Calls go by ids of our own, of the nine letters and digits that some models insist on: a client's id would
        reach the model unread by any guard."""
        ids: dict[str, str] = {}
        return tuple(message.message(lambda id: ids.setdefault(id, f"call{len(ids):05d}")) for message in self.messages)

    def offered(self) -> tuple[Tool, ...]:
        return tuple(tool.tool() for tool in self.tools or ())

    def as_prompt(self, exchange: Exchange) -> Prompt:
        """The admitted messages and tools, and how to sample."""
        chosen = self.tool_choice.function.name if isinstance(self.tool_choice, Chosen) else self.tool_choice
        return Prompt(
            exchange.admitted(),
            self.token_limit,
            self.temperature,
            self.top_p,
            self.stop,
            self.seed,
            exchange.admitted_tools(),
            chosen or "auto",
        )


class ChatFormat:
    """One answer as a chat completion, whole or in chunks."""

    def __init__(self, request_id: str, model: str) -> None:
        self._id, self._model, self._created = request_id, model, int(time.time())
        self._begun = False

    def whole(self, answer: Written) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
        if answer.calls:
            message |= {"content": answer.text or None, "tool_calls": self._calls(answer.calls)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
        counts = usage(answer.prompt_tokens, answer.completion_tokens)
        return {**self._frame("chat.completion"), "choices": [choice], "usage": counts}

    def text(self, text: str) -> bytes:
        return self._delta({"content": text})

    def calls(self, calls: Sequence[ToolCall]) -> bytes:
        return self._delta({"tool_calls": [{"index": at, **call} for at, call in enumerate(self._calls(calls))]})

    def end(self, finish: FinishReason, refusal: str | None = None) -> bytes:
        return self._delta({} if refusal is None else {"refusal": refusal}, finish)

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        counts = usage(prompt_tokens, completion_tokens)
        return event({**self._frame("chat.completion.chunk"), "choices": [], "usage": counts})

    def _delta(self, delta: dict[str, Any], finish: FinishReason | None = None) -> bytes:
        if not self._begun:
            self._begun, delta = True, {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._frame("chat.completion.chunk"), "choices": [choice]})

    def _calls(self, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
        """Under ids of our own: an endpoint's are its text, which no guard has read."""
        ids = (hashlib.sha256(f"{self._id}/{index}".encode()).hexdigest()[:24] for index in range(len(calls)))
        return [_call(call, f"call_{id}") for call, id in zip(calls, ids, strict=True)]

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}


def _call(call: ToolCall, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
