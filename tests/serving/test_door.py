"""A gateway under a switch: closed before, during and after a request; and its start and end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest

from raysafe.control.keys import KeyRing, new_key
from raysafe.control.killswitch import State
from raysafe.control.measures import NONE
from raysafe.guards.policy import Policy
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.door import Door
from raysafe.serving.gateway import Gateway
from raysafe.serving.responses import whole_response
from raysafe.serving.settings import GatewaySettings
from tests.serving.conftest import POLICY, TOOLS, Calling, Desk, MemoryAudit, Scripted, chat_scope, make_desk
from tests.serving.test_chat import MODES, ask

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
MESSAGES: Any = [{"role": "user", "content": "hi"}]


class Switch:
    """A plane that the test closes, from a thread of its own as the real one does."""

    def __init__(self) -> None:
        self.closed: str | None = None
        self.keys = KeyRing()
        self.measures = NONE
        self.events: list[str] = []
        self._callbacks: list[Callable[[str], None]] = []

    def state(self) -> State:
        return State("open" if self.closed is None else "killed", self.closed)

    def on_close(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def close(self, reason: str) -> None:
        self.closed = reason
        thread = threading.Thread(target=lambda: [callback(reason) for callback in self._callbacks])
        thread.start()
        thread.join()

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")


def desk_under(switch: Switch, backend: Scripted | None = None) -> Desk:
    key, secret = new_key("tester")
    switch.keys.replace([key])
    audit, behind = MemoryAudit(), backend or Scripted()
    settings = GatewaySettings(model="m", policy=Policy.parse(POLICY))
    return Desk(Gateway(settings, behind, ControlRoom(audit, switch)).app(), behind, audit, secret)


@MODES
async def test_a_closed_gateway_answers_nothing_and_names_nobody(stream: bool) -> None:
    switch = Switch()
    switch.close("'m' was killed by ann: it lies")
    desk = desk_under(switch)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(desk.openai, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (503, "service_closed")
    assert "was killed" in caught.value.message and "ann" not in caught.value.message
    assert desk.backend.prompts == []
    async with desk.http as client:
        health = await client.get("/healthz")
    assert health.status_code == 503 and "was killed" in health.json()["status"] and "ann" not in health.text


@MODES
async def test_closing_ends_what_is_under_way(stream: bool) -> None:
    switch, reached = Switch(), asyncio.Event()
    count = 0

    async def write() -> None:
        nonlocal count
        count += 1
        if count == 4:
            reached.set()
            await asyncio.sleep(30)

    desk = desk_under(switch, Scripted("one two three four five", 4, write if stream else _wait(reached)))
    task = asyncio.create_task(ask(desk.openai, stream=stream))
    await asyncio.wait_for(reached.wait(), 5)
    switch.close("killed")
    with pytest.raises(openai.APIError) as caught:
        await asyncio.wait_for(task, 5)
    assert caught.value.code == "service_closed"
    assert desk.backend.closed_early


def _wait(reached: asyncio.Event) -> Callable[[], Any]:
    async def wait() -> None:
        reached.set()
        await asyncio.sleep(30)

    return wait


async def test_no_piece_leaves_after_the_closing_even_where_no_one_was_told() -> None:
    """The switch's callbacks are a convenience: each piece asks for itself."""
    switch = Switch()
    written = 0

    async def write() -> None:
        nonlocal written
        written += 1
        if written == 3:
            switch.closed = "stale"
        await asyncio.sleep(0.002)

    desk = desk_under(switch, Scripted("abc def ghi jkl mno", 4, write))
    text = ""
    with pytest.raises(openai.APIError) as caught:
        stream = await desk.openai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert caught.value.code == "service_closed"
    assert len(text) <= 8


async def test_an_opened_gateway_answers_again() -> None:
    switch = Switch()
    desk = desk_under(switch)
    switch.close("killed")
    with pytest.raises(openai.InternalServerError):
        await ask(desk.openai, stream=False)
    switch.closed = None
    assert (await ask(desk.openai, stream=True))[2] == "stop"


@pytest.mark.serve
async def test_the_plane_runs_as_long_as_the_app() -> None:
    switch = Switch()
    desk = desk_under(switch)
    async with desk.app.router.lifespan_context(desk.app):
        assert switch.events == ["start"]
    assert switch.events == ["start", "stop"]


async def test_a_revoked_key_opens_nothing_any_more() -> None:
    switch = Switch()
    desk = desk_under(switch)
    await ask(desk.openai, stream=False)
    switch.keys.replace([])
    with pytest.raises(openai.AuthenticationError):
        await ask(desk.openai, stream=False)


async def test_a_full_gateway_says_when_to_come_back() -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await finish.wait()

    desk = make_desk(Scripted(before=wait), max_requests=1)
    first = asyncio.create_task(ask(desk.openai, stream=False))
    await started.wait()
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(desk.openai, stream=False)
    assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
    assert caught.value.response.headers["retry-after"] == "1"
    finish.set()
    await first
    await ask(desk.openai, stream=False)


async def test_a_body_that_does_not_come_is_given_up() -> None:
    desk = make_desk(body_timeout_s=0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {desk.secret}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    await desk.app({**scope, "http_version": "1.1", "raw_path": b"", "scheme": "http", "root_path": ""}, receive, send)
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("scopes", [("reviewer",), ("operator", "reviewer")])
async def test_a_key_without_the_users_scope_asks_nothing(scopes: Any) -> None:
    switch = Switch()
    desk = desk_under(switch)
    key, secret = new_key("rita", "acme", scopes)
    switch.keys.replace([key])
    desk.secret = secret
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await ask(desk.openai, stream=False)
    assert caught.value.code == "insufficient_scope" and desk.backend.prompts == []


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
    await desk.openai.chat.completions.create(model="m", messages=MESSAGES)
