"""An exchange that is held, as it is kept: what a reviewer reads, and what leaves once one has let it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import Field

from raysafe.config import Config
from raysafe.control.capabilities import Capabilities
from raysafe.guards.guard import Exchange, Message, Scale, Stage, Tool, ToolCall

Outcome = Literal["released", "refused"]


class Held(Config):
    """All of an exchange up to where it was held; `released` are guards whose earlier holds on it were let pass."""

    endpoint: Literal["chat", "completions", "embeddings", "predict", "act"]
    model: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, str], ...] = ()
    max_tokens: int | None = None
    output: str = ""
    tool_calls: tuple[dict[str, str], ...] = ()
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    released: dict[str, str] = Field(default_factory=dict)
    state: dict[str, Any] = Field(default_factory=dict, description="What guards remember of the request.")
    asked: dict[str, Any] | None = Field(default=None, description="Capabilities that the client asked to be held to.")
    scores: tuple[tuple[float, ...], ...] = Field(default=(), description="What a policy gave each of its actions.")
    scale: Scale = "probabilities"
    cleared: tuple[str, ...] | None = Field(
        default=None, description="The answer's text as its guards left it, where its calls are what is held."
    )

    @classmethod
    def of(cls, exchange: Exchange, stage: Stage, finish: str = "stop", counts: tuple[int, int] = (0, 0)) -> Held:
        return cls(
            endpoint=exchange.endpoint,
            model=exchange.model,
            messages=tuple(_message(message) for message in exchange.messages),
            tools=tuple({"name": tool.name, "definition": tool.definition} for tool in exchange.tools),
            max_tokens=exchange.max_tokens,
            output=exchange.output,
            tool_calls=tuple(_call(call) for call in exchange.tool_calls),
            finish=finish,
            prompt_tokens=counts[0],
            completion_tokens=counts[1],
            released=dict(exchange.released),
            state=dict(exchange.state),
            scores=exchange.scores,
            scale=exchange.scale,
            asked=exchange.asked.model_dump(mode="json") if isinstance(exchange.asked, Capabilities) else None,
            cleared=exchange.texts("output") if stage == "tool_call" else None,
        )

    def exchange(self, hold: Hold) -> Exchange:
        """The exchange again, with the guard that held it let pass."""
        return Exchange(
            hold.id,
            hold.key_id,
            self.model,
            tuple(_read_message(message) for message in self.messages),
            self.max_tokens,
            output=self.output,
            tenant=hold.tenant,
            endpoint=self.endpoint,
            tools=tuple(Tool(tool["name"], tool["definition"]) for tool in self.tools),
            tool_calls=tuple(_read_call(call) for call in self.tool_calls),
            asked=None if self.asked is None else Capabilities.parse(self.asked, "asked"),
            state=dict(self.state),
            scores=self.scores,
            scale=self.scale,
            released={**self.released, **({hold.place: hold.reviewer} if hold.reviewer else {})},
        )


class Hold(NamedTuple):
    """A hold and what became of it."""

    id: str
    service: str
    tenant: str
    key_id: str
    stage: Stage
    guard: str
    reason: str
    digest: str
    held: Held | None
    """None once it has expired: what it held is kept no longer than it could be of use."""
    created: datetime
    expires: datetime
    outcome: Outcome | None
    reviewer: str | None
    note: str | None
    audit_hash: str | None
    used: datetime | None

    @property
    def place(self) -> str:
        """What a release of it lets pass: this guard, at this stage."""
        return f"{self.stage}/{self.guard}"

    def state(self, now: datetime) -> str:
        """pending, released, refused, delivered or expired."""
        if self.used is not None:
            return "delivered"
        if self.outcome == "refused":
            return "refused"
        if self.held is None or now >= self.expires:
            return "expired"
        return self.outcome or "pending"

    def texts(self) -> tuple[str, ...]:
        """What the guard read, for a reviewer."""
        if self.held is None:
            return ()
        return self.held.exchange(self).received(self.stage)


def digest_of(exchange: Exchange, stage: Stage) -> str:
    """sha256 of what a hold is on: the stage's texts as they came, who says them, and whose exchange it is."""
    whose = [exchange.tenant, exchange.key_id, exchange.model, exchange.endpoint, stage]
    said = [[message.role, [call.name for call in message.tool_calls]] for message in exchange.messages]
    text = json.dumps([whose, said, exchange.received(stage)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _message(message: Message) -> dict[str, Any]:
    calls = [_call(call) for call in message.tool_calls]
    return {"role": message.role, "content": message.content, "calls": calls, "answers": message.tool_call_id}


def _read_message(kept: dict[str, Any]) -> Message:
    return Message(kept["role"], kept["content"], tuple(_read_call(c) for c in kept["calls"]), kept["answers"])


def _call(call: ToolCall) -> dict[str, str]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def _read_call(kept: dict[str, str]) -> ToolCall:
    return ToolCall(kept["id"], kept["name"], kept["arguments"])
