"""What every written answer is on the wire: usage, events, and the two forms that chat and plain completions take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from raysafe.guards.guard import ToolCall

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Written:
    """A whole answer on its way out; a filtered one says why in `refusal`."""

    text: str
    finish: FinishReason
    prompt_tokens: int
    completion_tokens: int
    refusal: str | None = None
    calls: tuple[ToolCall, ...] = ()


class TextFormat(Protocol):
    """One answer's form: a body, or the events of a stream in their order."""

    def whole(self, answer: Written) -> dict[str, Any]: ...

    def text(self, text: str) -> bytes: ...

    def calls(self, calls: Sequence[ToolCall]) -> bytes: ...

    def end(self, finish: FinishReason, refusal: str | None = None) -> bytes: ...

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes: ...


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def event(body: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(body) + b"\n\n"


def encode(body: Any) -> bytes:
    """Compact JSON. A lone surrogate, which JSON can write and UTF-8 can't, leaves as its escape."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()


def model_card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "raysafe"}
