"""What is sent to an OpenAI-compatible endpoint, and how its answers are read: nothing of them is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raysafe.errors import ModelError
from raysafe.guards.guard import Message, ToolCall
from raysafe.models.tool_calls import checked_arguments, tool_definition
from raysafe.serving.backend import Finish, ModelFailed, Overloaded, Prompt, PromptRefused
from raysafe.serving.texts import check_texts, prompt_texts

MOST_CALLS = 128
_LONGEST_WAIT_S = 3600.0
_REFUSED = (400, 413, 422)
"""Statuses by which an endpoint says that the prompt is at fault; of others, the settings or the endpoint are."""
_FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}

Answer = TypeVar("Answer", bound="Wire")
Count = Annotated[int, Field(ge=0, le=1 << 40)]


class Malformed(ModelFailed):
    """The endpoint answered what no such endpoint answers."""


class Wire(BaseModel):
    """Part of an answer; fields that aren't named here are left out."""

    model_config = ConfigDict(strict=True, frozen=True)


class Usage(Wire):
    prompt_tokens: Count
    completion_tokens: Count = 0


class Function(Wire):
    name: str | None = Field(default=None, max_length=256)
    arguments: str | None = None


class Called(Wire):
    """A tool call, or a part of one in a stream, which `index` tells."""

    index: Annotated[int, Field(ge=0, lt=MOST_CALLS)] | None = None
    id: str | None = Field(default=None, pattern=r"^[!-~]{0,256}$")
    function: Function = Function()


class Spoken(Wire):
    """A message, or a part of one."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Called] | None = Field(default=None, max_length=MOST_CALLS)
    function_call: None = None

    @property
    def text(self) -> str:
        """A refusal is the model's text as well."""
        return (self.content or "") + (self.refusal or "")


class Choice(Wire):
    """`message` of a whole answer, `delta` of a streamed one, `text` of one without a chat."""

    index: int = Field(default=0, ge=0, le=0)
    finish_reason: str | None = None
    message: Spoken | None = None
    delta: Spoken | None = None
    text: str | None = None


class Written(Wire):
    """An answer, or one event of it."""

    model: str | None = None
    choices: list[Choice] = Field(max_length=1)
    usage: Usage | None = None


class Vector(Wire):
    index: Annotated[int, Field(ge=0)]
    embedding: list[Annotated[float, Field(allow_inf_nan=False)]]


class Vectors(Wire):
    model: str | None = None
    data: list[Vector]
    usage: Usage | None = None


def parse(kind: type[Answer], text: str | bytes) -> Answer:
    """The answer in a JSON text; raises Malformed, which says nothing of what was sent."""
    try:
        return kind.model_validate(json.loads(text))
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"] if isinstance(part, int) or part.isidentifier())
        raise Malformed(f"the endpoint's answer is malformed at {place[:100] or 'its top'}") from None
    except (ValueError, RecursionError):
        raise Malformed("the endpoint's answer is no JSON") from None


def body(prompt: Prompt, model: str, token_field: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """Path and body of the request for a prompt; raises PromptRefused where it can't be sent."""
    check_texts(prompt_texts(prompt))
    asked: dict[str, Any] = {
        "model": model,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "stream": stream,
    }
    asked |= {"stop": list(prompt.stop)} if prompt.stop else {}
    asked |= {"seed": prompt.seed} if prompt.seed is not None else {}
    asked |= {"stream_options": {"include_usage": True}} if stream else {}
    if prompt.raw:
        asked |= {"max_tokens": prompt.max_tokens} if prompt.max_tokens is not None else {}
        return "completions", asked | {"prompt": prompt.messages[0].content}
    asked |= {token_field: prompt.max_tokens} if prompt.max_tokens is not None else {}
    asked["messages"] = [_message(message) for message in prompt.messages]
    if prompt.tools:
        asked["tools"] = [{"type": "function", "function": _definition(tool.definition)} for tool in prompt.tools]
        named = prompt.tool_choice not in ("auto", "none", "required")
        choice = {"type": "function", "function": {"name": prompt.tool_choice}} if named else prompt.tool_choice
        asked["tool_choice"] = choice
    return "chat/completions", asked


def _definition(text: str) -> dict[str, Any]:
    try:
        return tool_definition(text)
    except ModelError as error:
        raise PromptRefused(str(error), "invalid_messages") from None


def _message(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        sent["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    return sent


class CallMerger:
    """Tool calls in a stream: the parts of each, by its index."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[list[str], list[str], list[str]]] = {}

    def feed(self, called: list[Called]) -> int:
        """Take parts; how many bytes they have."""
        size = 0
        for place, part in enumerate(called):
            ids, names, arguments = self._parts.setdefault(place if part.index is None else part.index, ([], [], []))
            for kept, value in ((ids, part.id), (names, part.function.name), (arguments, part.function.arguments)):
                if value:
                    kept.append(value)
                    size += len(value.encode("utf-8", "surrogatepass"))
        return size

    def calls(self, prompt: Prompt) -> tuple[ToolCall, ...]:
        """The whole calls; raises Malformed where one isn't, or calls what wasn't offered."""
        offered = {tool.name for tool in prompt.tools} if prompt.tool_choice != "none" else set()
        found = []
        for ids, names, arguments in (self._parts[index] for index in sorted(self._parts)):
            # some endpoints repeat the id and the name with every part
            if len(set(ids)) != 1 or len(set(names)) != 1:
                raise Malformed("the endpoint sent a tool call without one id and one name")
            if names[0] not in offered:
                raise Malformed("the endpoint called a tool that was not offered")
            try:
                text = checked_arguments("".join(arguments) or "{}")
            except (ValueError, RecursionError):
                raise Malformed("the endpoint sent a tool call whose arguments are no JSON object") from None
            found.append(ToolCall(ids[0], names[0], text))
        if len({call.id for call in found}) < len(found):
            raise Malformed("the endpoint gave two tool calls one id")
        return tuple(found)


def finish(reason: str | None, calls: tuple[ToolCall, ...]) -> Finish:
    """Why an answer ended; raises PromptRefused where the endpoint's own filter cut it."""
    if reason == "content_filter":
        raise PromptRefused("the model's endpoint stopped this answer by a filter of its own", "content_filter")
    if reason not in _FINISHES:
        raise Malformed("the endpoint didn't say why its answer ended")
    return "tool_calls" if calls and reason == "stop" else _FINISHES[reason]


def problem(status: int, headers: Mapping[str, str], content: bytes) -> Exception:
    """What an error status means. The endpoint's own words go to nobody: no guard has seen them."""
    if status in (429, 503):
        return Overloaded(retry_after(headers.get("retry-after")))
    if status in _REFUSED:
        too_long = status == 413 or any(mark in content for mark in (b"context_length", b"context length"))
        code = "context_length_exceeded" if too_long else "invalid_messages"
        words = "they are too long for the model" if too_long else "it doesn't take what they ask for"
        return PromptRefused(f"the model's endpoint refused the messages (status {status}): {words}", code)
    return ModelFailed(f"the endpoint answered with status {status}")


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header means, from 1 to an hour."""
    try:
        wait_s = float(value or "")
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value or "").timestamp() - time()
        except ValueError:
            wait_s = 1.0
    return min(max(1.0, wait_s), _LONGEST_WAIT_S) if wait_s == wait_s else 1.0
