"""A gateway's view of another server: a real one on loopback, which answers what the test scripts and sees who goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from raysafe.errors import ConfigError
from raysafe.guards.guard import Message, ToolCall
from raysafe.serving.backend import (
    Completion,
    Embeddings,
    ModelFailed,
    NotOffered,
    Overloaded,
    Piece,
    Prompt,
)
from raysafe.serving.upstream import UpstreamBackend, UpstreamSettings
from tests.serving.endpoint import (
    HELLO,
    USAGE,
    WEATHER,
    answer,
    call,
    collect,
    delta,
    reply,
    streamed,
    upstream,
)

pytestmark = pytest.mark.anyio


async def test_a_whole_answer_and_what_was_asked_for_it() -> None:
    async with upstream(reply(answer(content="hi"))) as (backend, server):
        assert await backend.complete(HELLO) == Completion("hi", 7, 5, "stop")
        assert server.bodies == [
            {
                "model": "big", "messages": [{"role": "user", "content": "héllo"}], "max_tokens": 9, "temperature": 0.5,
                "top_p": 0.9, "stop": ["\n"], "seed": 3, "stream": False,
            }
        ]  # fmt: skip
        assert server.heads[0].startswith("POST /v1/chat/completions ")
        assert "accept-encoding: identity" in server.heads[0].lower()
        assert "authorization" not in server.heads[0].lower()
        assert backend.estimated == 0


async def test_a_streamed_answer_is_its_pieces_and_the_connection_is_used_again() -> None:
    events = [delta(role="assistant", content=""), delta(content="h"), delta(content="i"), delta("length")]
    usage = {"model": "big", "choices": [], "usage": USAGE}
    async with upstream(streamed(*events, usage, "[DONE]")) as (backend, server):
        for _ in range(2):
            pieces = await collect(backend, HELLO)
            assert [piece.text for piece in pieces] == ["h", "i", ""]
            assert pieces[-1] == Piece("", 7, 5, "length")
        assert server.bodies[0]["stream_options"] == {"include_usage": True}
        assert server.connections == 1


async def test_without_usage_tokens_are_counted_by_their_bytes_and_marked() -> None:
    async with upstream(reply(answer(content="héé", usage=None))) as (backend, _):
        found = await backend.complete(HELLO)
        assert (found.prompt_tokens, found.completion_tokens) == (len("user") + 6, 5)
        assert backend.estimated == 1
    async with upstream(streamed(delta(content="héé"), delta("stop"), "[DONE]")) as (backend, _):
        assert (await collect(backend, HELLO))[-1] == Piece("", 10, 5, "stop")
        assert backend.estimated == 1


async def test_a_raw_prompt_goes_to_completions() -> None:
    whole = {"model": "big", "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}], "usage": USAGE}
    raw = Prompt((Message("user", "Once"),), 5, raw=True)
    async with upstream(reply(whole)) as (backend, server):
        assert (await backend.complete(raw)).text == "hi"
        assert server.heads[0].startswith("POST /v1/completions ")
        assert server.bodies[0]["prompt"] == "Once" and "messages" not in server.bodies[0]
    async with upstream(streamed(whole, "[DONE]")) as (backend, _):
        assert [piece.text for piece in await collect(backend, raw)] == ["hi", ""]


async def test_tools_go_out_and_calls_come_back_whole_or_merged_from_their_parts() -> None:
    earlier = Message("assistant", "", (ToolCall("c0", "weather", '{"city": "Rome"}'),))
    prompt = Prompt((earlier, Message("tool", "sunny", (), "c0")), tools=(WEATHER,), tool_choice="weather")
    expected = (ToolCall("c1", "weather", '{"city": "Bern"}'), ToolCall("c2", "weather", "{}"))
    calls = [call(arguments='{"city":"Bern"}', id="c1"), call(arguments="", id="c2")]
    async with upstream(reply(answer("stop", content=None, tool_calls=calls))) as (backend, server):
        assert await backend.complete(prompt) == Completion("", 7, 5, "tool_calls", expected)
        sent = server.bodies[0]
        assert sent["tools"] == [{"type": "function", "function": json.loads(WEATHER.definition)}]
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
        assert sent["messages"] == [
            {"role": "assistant", "content": "", "tool_calls": [call(arguments='{"city": "Rome"}', id="c0")]},
            {"role": "tool", "content": "sunny", "tool_call_id": "c0"},
        ]
    events = [
        delta(content="Hm."), delta(tool_calls=[call(arguments="", id="c1", index=0)]),
        delta(tool_calls=[call(None, '{"city":', index=0)]), delta(tool_calls=[call(arguments="{}", id="c2", index=1)]),
        delta(tool_calls=[call(None, '"Bern"}', index=0)]), delta("tool_calls"), "[DONE]",
    ]  # fmt: skip
    async with upstream(streamed(*events)) as (backend, _):
        pieces = await collect(backend, prompt)
        assert "".join(piece.text for piece in pieces) == "Hm."
        assert (pieces[-1].tool_calls, pieces[-1].finish_reason) == (expected, "tool_calls")
        assert not any(piece.tool_calls for piece in pieces[:-1])


async def test_a_refusal_is_text_of_the_model_too() -> None:
    async with upstream(reply(answer(content=None, refusal="I won't."))) as (backend, _):
        assert (await backend.complete(HELLO)).text == "I won't."


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "s3cret")
    async with upstream(reply(answer(content="hi")), api_key_env="UP_KEY") as (backend, server):
        await backend.complete(HELLO)
        assert "authorization: bearer s3cret" in server.heads[0].lower()
    monkeypatch.delenv("UP_KEY")
    with pytest.raises(ConfigError, match="UP_KEY"):
        UpstreamBackend(UpstreamSettings(base_url="https://host/v1", model="m", api_key_env="UP_KEY"))


@pytest.mark.parametrize(
    "url", ["http://host/v1", "ftp://127.0.0.1/v1", "http://127.0.0.1.evil.com/v1", "https://me:pw@host/v1"]
)
def test_urls_that_are_not_safe_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        UpstreamSettings(base_url=url, model="m")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with upstream(reply(answer(content="hi")), proxies=True) as (backend, _):
        assert (await backend.complete(HELLO)).text == "hi"


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_cancelling_a_whole_answer_closes_the_connection() -> None:
    async with upstream(silent) as (backend, server):
        task = asyncio.create_task(backend.complete(HELLO))
        while not server.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(server.gone.wait(), 10)


async def test_closing_a_stream_closes_the_connection() -> None:
    async with upstream(streamed(delta(content="h"), wait=True)) as (backend, server):
        pieces = backend.stream(HELLO)
        assert (await anext(pieces)).text == "h"
        await pieces.aclose()
        await asyncio.wait_for(server.gone.wait(), 10)


@pytest.mark.parametrize("script", [silent, streamed(delta(content="h"), wait=True)])
async def test_a_silent_endpoint_is_a_failure(script: Any) -> None:
    async with upstream(script, read_timeout_s=0.05) as (backend, _):
        with pytest.raises(ModelFailed, match="ReadTimeout"):
            await collect(backend, HELLO)


async def test_no_free_connection_is_overload() -> None:
    async with upstream(silent, max_connections=1, pool_timeout_s=0.05) as (backend, server):
        task = asyncio.create_task(backend.complete(HELLO))
        while not server.bodies:
            await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await backend.complete(HELLO)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_endpoint_that_is_not_there_is_a_failure() -> None:
    backend = UpstreamBackend(UpstreamSettings(base_url="http://127.0.0.1:1/v1", model="m"))
    with pytest.raises(ModelFailed, match="ConnectError"):
        await backend.complete(HELLO)
    await backend.close()


async def test_embeddings_are_passed_through_in_order() -> None:
    data = [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [1.0, 2.0]}]
    content = {"model": "big", "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    async with upstream(reply(content), embeddings=True) as (backend, server):
        assert await backend.embed(("a", "b")) == Embeddings(((1.0, 2.0), (0.5, 1.0)), 4)
        assert server.bodies == [{"model": "big", "input": ["a", "b"], "encoding_format": "float"}]
    async with upstream(reply(content)) as (backend, _):
        with pytest.raises(NotOffered):
            await backend.embed(("a", "b"))


async def test_the_official_client_of_this_gateway_sees_what_the_endpoint_said() -> None:
    from tests.serving.conftest import make_desk

    events = [delta(content="Hello "), delta(content="there."), delta("stop"), "[DONE]"]
    async with upstream(streamed(*events)) as (backend, _):
        desk = make_desk(backend)
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        parts = [chunk async for chunk in await desk.openai.chat.completions.create(**asked)]
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == "Hello there."
