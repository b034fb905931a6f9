"""What guards that ask a model share: the model's settings, what it is shown of an exchange, and waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from raysafe.guards.guard import Exchange, Message, Stage
from raysafe.judges.blocking import wait_for
from raysafe.judges.spec import JudgeConfig, read_spec

T = TypeVar("T")
Turn = dict[str, str]


def _settings(value: Any) -> Any:
    """A short text means what it does on a command line (judges/spec.py); a service keeps no answers on disk.

    The cache would grow with the traffic, so that it is off unless the policy turns it on.
    """
    if isinstance(value, str):
        spec = read_spec(value)
        value = {name: getattr(spec, name) for name in spec.model_fields_set}
    if isinstance(value, dict) and value.get("kind") == "openai":
        return {"cache": False, **value}
    return value


AskedModel = Annotated[JudgeConfig, BeforeValidator(_settings)]
"""JudgeConfig of a guard: a mapping of its fields, or a text such as openai:MODEL@URL, module:function or a folder."""


def conversation(exchange: Exchange, *, tools: bool = False) -> list[Turn]:
    """The messages that the model may see, calls in them included, as role and content; with the tools' definitions."""
    turns: list[Turn] = []
    for message in exchange.admitted():
        turns.append({"role": message.role, "content": message.content})
        turns += [{"role": "tool_call", "content": f"{call.name} {call.arguments}"} for call in message.tool_calls]
    if tools:
        turns += [{"role": "tool_definition", "content": tool.definition} for tool in exchange.admitted_tools()]
    return turns


def chat_turns(messages: Iterable[Message]) -> list[Turn]:
    """Messages as a model that isn't offered the tools can answer them: system, user and assistant only."""
    turns: list[Turn] = []
    for message in messages:
        calls = [f"[calls {call.name} {call.arguments}]" for call in message.tool_calls]
        content = "\n".join([*([message.content] if message.content else []), *calls])
        if message.role in ("system", "user", "assistant"):
            turns.append({"role": message.role, "content": content})
        else:
            turns.append({"role": "user", "content": f"[{message.role}]\n{content}"})
    return turns


def answers(exchange: Exchange, stage: Stage) -> list[str]:
    """The model's texts at a stage after the input: the answer, or each call by its tool's name and arguments."""
    texts = exchange.texts(stage)
    if stage != "tool_call":
        return list(texts)
    return [f"{call.name} {text}" for call, text in zip(exchange.tool_calls, texts, strict=True)]


def wait_at_most(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """The result of a coroutine, which is cancelled when it is late; raises TimeoutError then."""
    return wait_for(asyncio.wait_for(work, timeout_s))
