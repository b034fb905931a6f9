"""Ways round the gateway that an attacker would try: each is closed, or marked as open with the reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import event

from raysafe.control.budgets import Budgets
from raysafe.control.capabilities import Capabilities
from raysafe.control.reach import people_in
from raysafe.control.tools import object_to
from raysafe.guards.guard import Exchange, Message, ToolCall
from raysafe.records.store import open_store
from raysafe.serving.backend import Completion, Piece, Prompt, PromptRefused
from raysafe.serving.door import Door
from raysafe.serving.responses import whole_response
from raysafe.serving.spending import prompt_bound
from tests.serving.conftest import Desk, Scripted, make_desk
from tests.serving.test_door import Switch, desk_under
from tests.serving.test_holds import HOLD, House, phrases
from tests.serving.test_spending import MESSAGES, REQUESTS, TOKENS, ask, desk_with

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "fetch", "parameters": {"type": "object"}}}]
GRANTED = Capabilities(
    tools=("*",), domains=("good.org", "*.good.org"), paths=("/srv",), autonomy=3, scope="public", recipients=2
)


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[Budgets]:
    url = f"sqlite:///{tmp_path}/store.db"
    open_store(url).close()
    with Budgets(url) as budgets:
        yield budgets


class Calling(Scripted):
    """Answers `text` and wants to make `call`."""

    def __init__(self, text: str = "Let me see.", **arguments: Any) -> None:
        super().__init__(text)
        self.call = ToolCall("call_1", "fetch", json.dumps(arguments))

    async def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        return Completion(self.text, 7, 5, "tool_calls", (self.call,))

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
        self.prompts.append(prompt)
        yield Piece(self.text, 7, 5)
        yield Piece("", 7, 5, "tool_calls", (self.call,))


# capabilities: what a tool's arguments reach


@pytest.mark.parametrize(
    "text",
    [
        "http://good.org'@evil.com/x",
        'http://good.org"@evil.com/x',
        "http://good.org<@evil.com/x",
        "http://good.org @evil.com/x",
        "http:evil.com/x",
        "https:/evil.com/x",
        "http://<IP_1>/x",
        "http:<EMAIL_1>/x",
        f"http://{'a.' * 1020}good.org@evil.com/x",
    ],
)
def test_a_url_that_only_begins_like_a_granted_one_is_refused(text: str) -> None:
    assert list(object_to(ToolCall("c", "fetch", json.dumps({"u": text})), None, GRANTED))


@pytest.mark.parametrize(
    "text",
    ["/x/http://good.org/../../../../etc/passwd", "/x y/../etc/passwd", "/" * 5000 + "etc/passwd", "~/a b/../x"],
)
def test_a_path_is_one_whatever_stands_in_it(text: str) -> None:
    assert list(object_to(ToolCall("c", "fetch", json.dumps({"p": text})), None, GRANTED))


@pytest.mark.parametrize(
    "text",
    [
        "http://good.org/a'b@c",
        "see http://good.org or write to ann@good.org",
        "<a href='http://good.org/x'>x</a>",
        "1/2",
    ],
)
def test_prose_with_a_granted_address_passes(text: str) -> None:
    assert not list(object_to(ToolCall("c", "fetch", json.dumps({"u": text})), None, GRANTED))


@pytest.mark.parametrize("to", ["a@x.org|b@x.org|c@x.org", {"a@x.org": None, "b@x.org": None, "c@x.org": None}])
def test_recipients_are_counted_however_they_are_written(to: Any) -> None:
    assert people_in(to) == 3


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


# what a client or a model's endpoint names


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


# holds


async def test_a_release_is_for_the_roles_that_were_held(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("bomb", "hold")])
    hold_id = (await house.ask("a bomb: obey me")).headers[HOLD]
    await house.decide(hold_id)
    release: Any = {HOLD: hold_id}
    body = {"model": "m", "messages": [{"role": "system", "content": "a bomb: obey me"}]}
    assert (await house.call("ann", "POST", "chat/completions", body, **release)).status_code == 409
    assert (await house.ask("a bomb: obey me", **release)).status_code == 200


async def test_a_delivered_call_keeps_to_what_its_request_asked_for(tmp_path: Path) -> None:
    guards = [phrases("secret", "hold"), {"kind": "capabilities"}]
    house = House(tmp_path, guards, Calling(q="the secret"))
    body = {"model": "m", "messages": MESSAGES, "tools": TOOLS}
    asked = {"X-RaySafe-Capabilities": '{"tools": []}'}
    await house.call("ann", "POST", "chat/completions", body, **asked)
    [hold] = house.holds.list()
    await house.decide(hold.id)
    assert (await house.call("ann", "GET", f"holds/{hold.id}")).status_code == 403


async def test_an_answer_held_twice_may_be_asked_for_again(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("friend", "hold", "first"), phrases("hello", "hold", "second", "output")])
    await house.ask()
    [first] = house.holds.list()
    await house.decide(first.id)
    found = [await house.call("ann", "GET", f"holds/{first.id}") for _ in "12"]
    assert [(answer.status_code, answer.headers.get(HOLD)) for answer in found] == [(403, f"{first.id}.2")] * 2


async def test_one_key_cannot_fill_the_store_with_holds(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("raysafe.control.holds.MOST_OF_ONE_KEY", 3, raising=False)
    house = House(tmp_path, [phrases("bomb", "hold")])
    for _ in range(5):
        await house.ask("a bomb")
    assert len(house.holds.list()) == 3
    await house.ask("a bomb", "bob")
    assert len(house.holds.list()) == 4


async def test_keeping_a_hold_does_not_write_the_expired_ones_anew(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("bomb", "hold")], hold_hours=1e-9)
    written: list[int] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith("UPDATE holds"):
            written.append(cursor.rowcount)

    for _ in range(3):
        await house.ask("a bomb")
    event.listen(house.store.engine, "after_cursor_execute", note)
    await house.ask("a bomb")
    assert sum(written) <= 2


async def test_what_a_reviewer_reads_of_a_hold_is_in_the_audit_log(tmp_path: Path) -> None:
    house = House(tmp_path, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    before = len(house.audit.rows)
    assert "texts" in (await house.call("otto", "GET", f"holds/{hold.id}")).json()
    row = house.audit.rows[before]
    assert (row["actor"], row["subject"]) == ("otto", hold.id)


async def test_a_refused_request_does_not_use_up_its_release(tmp_path: Path) -> None:
    house = House(tmp_path, [{"kind": "rate", "requests_per_minute": 1}, phrases("bomb", "hold")])
    hold_id = (await house.ask("a bomb")).headers[HOLD]
    await house.decide(hold_id)
    release: Any = {HOLD: hold_id}
    assert (await house.ask("a bomb", **release)).status_code == 429
    kept = house.holds.get(hold_id)
    assert kept is not None and kept.used is None


async def test_a_note_that_a_store_may_refuse_reaches_no_log(tmp_path: Path) -> None:
    """PostgreSQL takes no NUL; the audit log, which is written first, does."""
    house = House(tmp_path, [phrases("friend", "hold")])
    await house.ask()
    [hold] = house.holds.list()
    said = {"outcome": "released", "note": "I\x00looked\nat it"}
    assert (await house.call("rita", "POST", f"holds/{hold.id}", said)).status_code == 400
    assert not list((tmp_path / "audit").glob("holds*"))


# budgets


async def test_a_stream_that_its_endpoint_cuts_is_paid_for(counters: Budgets) -> None:
    class Cut(Scripted):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece]:
            yield Piece("a long answer, all of it", 7, 500)
            await asyncio.sleep(0.01)
            raise PromptRefused("stopped by a filter of its own", "content_filter")

    desk = desk_with(counters, {**REQUESTS, "limit": 1}, backend=Cut())
    for expected in (openai.APIError, openai.RateLimitError):
        with pytest.raises(expected):
            await ask(desk, True)


@pytest.mark.parametrize("tokens", [1 << 41, -5])
async def test_a_strange_count_of_tokens_stays_charged_and_harms_nobody(counters: Budgets, tokens: int) -> None:
    class Strange(Scripted):
        async def complete(self, prompt: Prompt) -> Completion:
            return Completion("Hello.", tokens, 0)

    desk = desk_with(counters, TOKENS, backend=Strange())
    with suppress(openai.InternalServerError):
        await ask(desk, max_tokens=50)
    with pytest.raises(openai.RateLimitError):
        await ask(desk, max_tokens=60)
    async with desk.http as client:
        assert 'raysafe_requests_under_way{model="m"} 0.0' in (await client.get("/metrics")).text


async def test_a_rate_that_no_budget_can_hold_is_no_way_round_the_audit_log(counters: Budgets) -> None:
    desk = desk_with(counters)
    async with desk.http as client:
        body = {"model": "m", "messages": MESSAGES}
        asked = {"X-RaySafe-Capabilities": '{"tokens_per_minute": 10000000000000}'}
        answer = await client.post("/v1/chat/completions", json=body, headers=asked)
    assert answer.status_code == 200 and desk.audit.rows


# the kill switch


def chat_scope(desk: Desk) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {desk.secret}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    return {**scope, "http_version": "1.1", "raw_path": b"", "scheme": "http", "root_path": ""}


async def test_a_request_whose_body_comes_after_the_closing_reaches_no_model() -> None:
    switch = Switch()
    desk = desk_under(switch)
    body = json.dumps({"model": "m", "messages": MESSAGES}).encode()
    sent: list[Any] = []
    given = 0

    async def receive() -> Any:
        nonlocal given
        given += 1
        if given > 1:
            await asyncio.sleep(30)
        switch.close("killed")
        await asyncio.sleep(0)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await desk.app(chat_scope(desk), receive, send)
    assert sent[0]["status"] == 503 and desk.backend.prompts == []


async def test_nothing_of_a_stream_leaves_once_it_is_closed() -> None:
    switch = Switch()
    desk = desk_under(switch, Calling("Hi."))
    body = json.dumps({"model": "m", "messages": MESSAGES, "tools": TOOLS, "stream": True}).encode()
    bodies = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[bytes] = []

    async def receive() -> Any:
        for message in bodies:
            return message
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if b'"content":"Hi."' in sent[-1]:
            switch.closed = "killed"

    await desk.app(chat_scope(desk), receive, send)
    after = b"".join(sent).partition(b'"content":"Hi."')[2]
    assert b"fetch" not in after and b"service_closed" in after


async def test_no_whole_answer_leaves_once_it_is_closed() -> None:
    switch = Switch()

    async def receive() -> Any:
        await asyncio.sleep(30)

    async def work() -> Any:
        switch.closed = "killed"
        return {"text": "of the model"}

    answer = await whole_response(receive, Door(switch), work(), {})
    assert answer.status_code == 503 and b"of the model" not in answer.body


# slow readers and writers


async def test_bodies_under_way_are_as_many_as_requests_may_be() -> None:
    desk = make_desk(max_requests=1, body_timeout_s=0.2)
    reading, most = 0, 0

    async def receive() -> Any:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        try:
            await asyncio.sleep(30)
        finally:
            reading -= 1

    async def send(message: Any) -> None:
        return None

    await asyncio.gather(*(desk.app(chat_scope(desk), receive, send) for _ in range(5)))
    assert most == 1


async def test_a_reader_that_stalls_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr("raysafe.serving.responses.STALLED_S", 0.02, raising=False)
    desk = make_desk(max_requests=1)
    body = json.dumps({"model": "m", "messages": MESSAGES, "stream": True}).encode()
    bodies = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in bodies:
            return message
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        await asyncio.sleep(30)

    await asyncio.wait_for(desk.app(chat_scope(desk), receive, send), 2)
    await ask(desk)
