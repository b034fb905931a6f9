"""A model that calls the tool `python`, sandboxes that say what they were told, and who asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from raysafe.control.capabilities import Capabilities
from raysafe.control.sandbox.proxy.traffic import NetworkRequest
from raysafe.control.sandbox.result import Breach, Usage
from raysafe.guards.guard import ToolCall
from raysafe.serving.backend import Completion, Finish, Piece, Prompt, WritesOnly
from raysafe.serving.python_tool import PythonToolSettings
from tests.serving.conftest import Desk, make_desk

GRANTED = Capabilities(tools=("python",), autonomy=3)
HELLO: list[Any] = [{"role": "user", "content": "What is 6 times 7?"}]


@dataclass
class Ran:
    stdout: str = "42\n"
    stderr: str = ""
    exit_code: int = 0
    limit_hit: str | None = None
    breaches: tuple[Breach, ...] = ()
    usage: Any = field(default_factory=lambda: usage())


def usage(*network: NetworkRequest) -> Usage:
    return Usage(0.1, 0.1, 1, 1, 1, network=network, enforced_by="watchdog")


@dataclass
class Sandboxes:
    """Answers each program by `does`; notes what ran, and what the log held by then."""

    does: Callable[[str], Any] = lambda code: Ran()
    codes: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    audit: Any = None
    state: str = "new"
    killed: bool = False

    def start(self) -> None:
        self.state = "started"

    async def arun(self, code: str) -> Ran:
        self.codes.append(code)
        if self.audit is not None:
            self.rows.append(len(self.audit.rows))
        ran = self.does(code)
        if asyncio.iscoroutine(ran):
            try:
                return await ran
            except asyncio.CancelledError:
                self.killed = True
                raise
        return ran

    def close(self) -> None:
        self.state = "closed"


Turn = tuple[str, list[tuple[str, Any]]]


class Turns(WritesOnly):
    """A model that says a text, and makes calls, in each of its turns; the last turn is repeated."""

    def __init__(self, *turns: Turn) -> None:
        self._turns, self.prompts = list(turns), list[Prompt]()

    def _next(self, prompt: Prompt) -> tuple[str, tuple[ToolCall, ...], Finish]:
        self.prompts.append(prompt)
        text, calls = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
        made = tuple(ToolCall(f"their_{at}", name, json.dumps(given)) for at, (name, given) in enumerate(calls))
        offered = {tool.name for tool in prompt.tools}
        made = tuple(call for call in made if call.name in offered)
        return text, made, "tool_calls" if made else "stop"

    async def complete(self, prompt: Prompt) -> Completion:
        text, calls, finish = self._next(prompt)
        return Completion(text, 7, 5, finish, calls)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        text, calls, finish = self._next(prompt)
        for at in range(0, len(text), 3):
            yield Piece(text[at : at + 3], 7, 1)
        yield Piece("", 7, 5, finish, calls)


def code(text: str = "print(6 * 7)") -> tuple[str, Any]:
    return "python", {"code": text}


def desk_for(
    *turns: Turn,
    sandboxes: Sandboxes | None = None,
    guards: Any = (),
    granted: Any = GRANTED,
    counters: Any = None,
    tool: Any = None,
    **more: Any,
) -> tuple[Desk, Sandboxes]:
    turns = turns or (("Let me see.", [code()]), ("It is 42.", []))
    sandboxes = sandboxes or Sandboxes()
    desk = make_desk(
        Turns(*turns),  # type: ignore[arg-type]
        {"guards": list(guards), "stream_window": 1},
        counters,
        sandboxes=sandboxes,
        granted=granted,
        python_tool=PythonToolSettings(**(tool or {})),
        **more,
    )
    sandboxes.audit = desk.audit
    return desk, sandboxes


async def ask(desk: Desk, stream: bool, **more: Any) -> Any:
    """(text, finish, refusal, usage) of an answer, by the official client."""
    if not stream:
        answer = await desk.openai.chat.completions.create(model="m", messages=HELLO, **more)
        choice = answer.choices[0]
        assert answer.usage is not None
        return choice.message.content or "", choice.finish_reason, choice.message.refusal, answer.usage.total_tokens
    text, finish, refusal, total = "", None, None, 0
    events = await desk.openai.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}, **more
    )
    async for event in events:
        for choice in event.choices:
            text += choice.delta.content or ""
            refusal = choice.delta.refusal or refusal
            finish = choice.finish_reason or finish
            assert not choice.delta.tool_calls
        total = event.usage.total_tokens if event.usage else total
    return text, finish, refusal, total


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
