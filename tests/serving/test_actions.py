"""Tool calls and moves at the gateway: what a safety case grants, a policy allows and a request asks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from raysafe.control.capabilities import Capabilities
from tests.serving.conftest import Desk, make_desk
from tests.serving.test_matrix import BODIES, Model

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
GRANTED = Capabilities(tools=("lookup", "act"), autonomy=3)


def desk_for(granted: Capabilities | None = GRANTED, **allowed: Any) -> Desk:
    guards = [{"kind": "capabilities", "allowed": {"tools": ["*"], "autonomy": 3, **allowed}}] if allowed else []
    return make_desk(Model(), {"guards": guards}, granted=granted)  # type: ignore[arg-type]


async def post(desk: Desk, body: dict[str, Any], path: str = "chat/completions", **headers: str) -> httpx.Response:
    async with desk.http as client:
        return await client.post(f"/v1/{path}", json={"model": "m", **body}, headers=headers)


def calls(answer: httpx.Response) -> Any:
    choice = answer.json()["choices"][0]
    return choice["message"].get("tool_calls"), choice["finish_reason"], choice["message"]["refusal"]


async def test_a_granted_call_leaves_and_is_named_in_the_log() -> None:
    desk = desk_for()
    made, finish, _ = calls(await post(desk, BODIES["tools"]))
    assert (made[0]["function"]["name"], finish) == ("lookup", "tool_calls")
    row = desk.audit.rows[-1]
    assert (row["stage"], row["action"], row["tools"]) == ("tool_call", "allow", ["lookup"])


@pytest.mark.parametrize(
    ("granted", "allowed", "why"),
    [
        (Capabilities(), {}, "isn't granted"),
        (Capabilities(tools=("search",), autonomy=3), {}, "isn't granted"),
        (GRANTED.model_copy(update={"autonomy": 0}), {}, "it may suggest"),
        (GRANTED.model_copy(update={"autonomy": 1}), {}, "acts after approval"),
        (GRANTED, {"tools": ["act"]}, "isn't granted"),
        (GRANTED, {"autonomy": 1}, "acts after approval"),
    ],
)
async def test_what_is_not_in_effect_does_not_leave(granted: Any, allowed: dict[str, Any], why: str) -> None:
    made, finish, refusal = calls(await post(desk_for(granted, **allowed), BODIES["tools"]))
    assert made is None and finish == "content_filter"
    assert why in refusal


async def test_a_request_may_ask_for_less() -> None:
    less = {"X-RaySafe-Capabilities": json.dumps({"tools": ["search"]})}
    assert calls(await post(desk_for(), BODIES["tools"], **less))[0] is None
    more = {"X-RaySafe-Capabilities": json.dumps({"tools": ["*"]})}
    assert calls(await post(desk_for(Capabilities()), BODIES["tools"], **more))[0] is None


@pytest.mark.parametrize("header", ["not json", "[]", "3", '{"autonomy": 9}', '{"tool": []}', "[" * 10_000])
async def test_capabilities_that_cannot_be_read_are_refused(header: str) -> None:
    answer = await post(desk_for(), BODIES["tools"], **{"X-RaySafe-Capabilities": header})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_capabilities")


async def test_a_move_of_a_policy_is_a_call_of_the_tool_act() -> None:
    assert (await post(desk_for(), BODIES["act"], "act")).json()["actions"] == [2, 2]
    refused = await post(desk_for(Capabilities()), BODIES["act"], "act")
    assert refused.status_code == 403 and "actions" not in refused.json()


async def test_a_shield_may_change_a_move_but_not_its_kind() -> None:
    rule = {"tools": {"act": {"arguments": {"action": {"kind": "number", "at_most": 1}}}}}
    desk = make_desk(Model(), {"guards": [{"kind": "capabilities", **rule}]})  # type: ignore[arg-type]
    answer = await post(desk, BODIES["act"], "act")
    assert answer.status_code == 403 and "out of its range" in answer.json()["error"]["message"]


async def test_tools_are_guarded_on_their_way_in() -> None:
    rules = [{"name": "r", "phrases": ["make a bomb"]}]
    desk = make_desk(Model(), {"guards": [{"kind": "patterns", "stages": ["input"], "rules": rules}]})  # type: ignore[arg-type]
    function = {"name": "lookup", "description": "tells you how to make a bomb", "parameters": {"type": "object"}}
    body = {**BODIES["tools"], "tools": [{"type": "function", "function": function}]}
    assert (await post(desk, body)).status_code == 400
    call = {"id": "1", "type": "function", "function": {"name": "lookup", "arguments": '{"q": "make a bomb"}'}}
    history = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    assert (await post(desk, {"messages": history})).status_code == 400
