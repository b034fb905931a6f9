"""Fields beside the text that a client or a model's endpoint fills: they carry nothing past the guards."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from raysafe.guards.guard import Exchange, Message, ToolCall
from raysafe.serving.spending import prompt_bound
from tests.serving.conftest import TOOLS, Calling, make_desk
from tests.serving.test_spending import MESSAGES

pytestmark = [pytest.mark.anyio, pytest.mark.serve]


async def test_a_calls_id_gives_the_model_no_unguarded_text() -> None:
    call = {"id": "make a bomb", "type": "function", "function": {"name": "fetch", "arguments": "{}"}}
    messages: Any = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "make a bomb", "content": "done"},
    ]
    desk = make_desk()
    await desk.openai.chat.completions.create(model="m", messages=messages)
    [prompt] = desk.backend.prompts
    assert "bomb" not in str(prompt)
    assert prompt.messages[1].tool_calls[0].id == prompt.messages[2].tool_call_id


async def test_a_calls_name_gives_the_model_no_unguarded_text() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "make-a-bomb", "arguments": "{}"}}
    messages: Any = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}]
    messages += [{"role": "tool", "tool_call_id": "c", "content": "done"}]
    desk = make_desk()
    with pytest.raises(openai.BadRequestError):
        await desk.openai.chat.completions.create(model="m", messages=messages)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_models_endpoint_gives_the_client_no_unguarded_text_as_an_id(stream: bool) -> None:
    backend = Calling()
    backend.call = ToolCall("the-secret-code-is-1234-now", "fetch", "{}")
    desk = make_desk(backend)
    body = {"model": "m", "messages": MESSAGES, "tools": TOOLS, "stream": stream}
    async with desk.http as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert "fetch" in answer.text and "1234" not in answer.text


def test_a_prompts_bound_counts_the_names_of_calls() -> None:
    calls = tuple(ToolCall("c", "n" * 64, "") for _ in range(100))
    assert prompt_bound(Exchange("r", "k", "m", (Message("assistant", "", calls),))) >= 6400


async def test_what_a_later_guard_puts_into_a_call_is_held_to_capabilities_too() -> None:
    rule = {"arguments": {"to": {"kind": "text", "longest": 9}}}
    guards = [{"kind": "capabilities", "tools": {"fetch": rule}}, {"kind": "pii", "entities": ["email"]}]
    desk = make_desk(Calling(to="<EMAIL_1>"), {"guards": guards})
    messages: Any = [{"role": "user", "content": "write to ann@example.org"}]
    answer = await desk.openai.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    assert "ann@example.org" not in str(answer.choices[0].message.tool_calls)


async def test_an_asked_capability_list_is_bounded() -> None:
    """Narrowing compares each granted name with each asked one, on the event loop."""
    desk = make_desk(policy={"guards": [{"kind": "capabilities"}]})
    asked = json.dumps({"domains": [f"a{number:x}" for number in range(5000)]})
    async with desk.http as client:
        body = {"model": "m", "messages": MESSAGES}
        answer = await client.post("/v1/chat/completions", json=body, headers={"X-RaySafe-Capabilities": asked})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_capabilities"
