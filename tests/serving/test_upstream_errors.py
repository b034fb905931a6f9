"""An endpoint that refuses, breaks off or answers nonsense: the matching error here, and none of its words."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from raysafe.guards.guard import Message, Tool
from raysafe.serving.backend import (
    ModelFailed,
    Overloaded,
    Prompt,
    PromptRefused,
)
from tests.serving.endpoint import (
    HELLO,
    TOOLS,
    answer,
    call,
    collect,
    delta,
    reply,
    streamed,
    upstream,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "headers", "error", "wait_s"),
    [
        (429, {"Retry_After": "7"}, Overloaded, 7.0),
        (503, {}, Overloaded, 1.0),
        (503, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, Overloaded, 1.0),
        (429, {"Retry_After": "nan"}, Overloaded, 1.0),
        (429, {"Retry_After": "1e99"}, Overloaded, 3600.0),
        (400, {}, PromptRefused, None),
        (422, {}, PromptRefused, None),
        (401, {}, ModelFailed, None),
        (404, {}, ModelFailed, None),
        (500, {}, ModelFailed, None),
        (302, {"Location": "http://127.0.0.1:1/v1"}, ModelFailed, None),
        (204, {}, ModelFailed, None),
    ],
)
async def test_an_error_of_the_endpoint_is_the_matching_one_here_and_its_words_stay_behind(
    status: int, headers: dict[str, str], error: type[Exception], wait_s: float | None
) -> None:
    content = "" if status == 204 else {"error": {"message": "The secret is 1234", "code": "x"}}
    async with upstream(reply(content, status, **headers)) as (backend, server):
        for ask in (backend.complete(HELLO), collect(backend, HELLO)):
            with pytest.raises(error) as raised:
                await ask
            assert "1234" not in str(raised.value)
            assert wait_s is None or raised.value.retry_after_s == wait_s  # type: ignore[attr-defined]
        assert len(server.bodies) == 2, "nothing is asked twice"


async def test_a_prompt_too_long_for_the_endpoint_is_said_to_be() -> None:
    content = {"error": {"message": "This model's maximum context length is 8 tokens"}}
    async with upstream(reply(content, 400)) as (backend, _):
        with pytest.raises(PromptRefused) as refused:
            await backend.complete(HELLO)
        assert refused.value.code == "context_length_exceeded"


async def test_an_answer_that_the_endpoints_filter_cut_is_refused() -> None:
    async with upstream(reply(answer("content_filter", content="hi"))) as (backend, _):
        with pytest.raises(PromptRefused, match="filter of its own"):
            await backend.complete(HELLO)


BOMB = gzip.compress(b"x" * 10_000_000)
NESTED = "[" * 9_000


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (reply("<html>hello</html>"), "no JSON"),
        (reply(NESTED), "no JSON"),
        (reply("{}"), "malformed at choices"),
        (reply(answer(content="hi"), kind="text/html"), "not of type application/json"),
        (reply(answer(content=["hi"])), "malformed at choices.0.message.content"),
        (reply(answer(content="hi", model="other")), "another model's name"),
        (reply(answer(None, content="hi")), "why its answer ended"),
        (reply(answer("function_call", content="hi")), "why its answer ended"),
        (reply(answer(content="hi", function_call={"name": "x"})), "malformed at choices.0.message.function_call"),
        (reply({"model": "big", "choices": []}), "without a choice"),
        (reply(answer(content="hi", usage={"prompt_tokens": -1, "completion_tokens": 1})), "usage.prompt_tokens"),
        (reply(answer(content=None, tool_calls=[call("launch", id="c1")])), "was not offered"),
        (reply(answer(content=None, tool_calls=[call(arguments="[1]", id="c1")])), "no JSON object"),
        (reply(answer(content=None, tool_calls=[call(arguments=NESTED, id="c1")])), "no JSON object"),
        (reply(answer(content=None, tool_calls=[call()])), "without one id and one name"),
        (reply(answer(content=None, tool_calls=[call(id="c"), call(id="c")])), "one id"),
        (reply(answer(content=None, tool_calls=[call(id=str(n)) for n in range(200)])), "tool_calls"),
        (reply(json.dumps(answer(content="hi")).replace('"hi"', '"\\ud800"')), "no UTF-8"),
        (reply(b"x" * 30_000), "an answer of more than 20,000 bytes"),
        (reply(BOMB, Content_Encoding="gzip"), "compressed"),
    ],
)
async def test_a_malformed_whole_answer_is_a_failure(script: Any, message: str) -> None:
    async with upstream(script, answer_bytes=20_000) as (backend, _):
        with pytest.raises(ModelFailed, match=message):
            await backend.complete(TOOLS)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (reply(answer(content="hi")), "not of type text/event-stream"),
        (streamed(delta(content="h"), "{broken"), "no JSON"),
        (streamed(delta(content="h"), b"data: \xff\n\n"), "no UTF-8"),
        (streamed(delta(content="h"), delta(content="i") | {"model": "other"}), "another model's name"),
        (streamed(delta(content="h"), "[DONE]"), "why its answer ended"),
        (streamed(delta(content="h")), "why its answer ended"),
        (streamed(delta(content="h"), delta("stop"), end=b""), "RemoteProtocolError"),
        (streamed(delta(content="h"), delta("stop"), delta(content="more"), "[DONE]"), "wrote on"),
        (streamed({"model": "big", "choices": [{"index": 1, "delta": {"content": "h"}}]}), "choices.0.index"),
        (streamed({"error": {"message": "The secret is 1234"}}), "malformed at choices"),
        (streamed(delta(content="h"), b"data: " + b"x" * 5000), "a line of more than 2,000 bytes"),
        (streamed(*[b": alive\n" * 100] * 100), "a stream of more than 20,000 bytes"),
        (streamed(delta(tool_calls=[call("launch", id="c1", index=0)]), delta("tool_calls"), "[DONE]"), "not offered"),
        (streamed(delta(tool_calls=[call(id="c1", index=500)])), "index"),
        (streamed(delta(tool_calls=[call(arguments="{", id="c", index=0)]), delta("tool_calls")), "no JSON object"),
    ],
)
async def test_a_malformed_stream_is_a_failure(script: Any, message: str) -> None:
    # a server that ends a stream early closes its connection
    async def then_close(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        writer.close()

    async with upstream(then_close, answer_bytes=20_000, event_bytes=2_000) as (backend, _):
        with pytest.raises(ModelFailed, match=message):
            await collect(backend, TOOLS)


async def test_a_call_without_any_tools_offered_is_a_failure() -> None:
    for prompt in (HELLO, Prompt(TOOLS.messages, tools=TOOLS.tools, tool_choice="none")):
        async with upstream(reply(answer(content=None, tool_calls=[call(id="c1")]))) as (backend, _):
            with pytest.raises(ModelFailed, match="not offered"):
                await backend.complete(prompt)


@pytest.mark.parametrize(
    "prompt", [Prompt((Message("user", "a\ud800"),)), Prompt(HELLO.messages, tools=(Tool("weather", "[REDACTED]"),))]
)
async def test_what_cannot_be_sent_is_refused_here(prompt: Prompt) -> None:
    async with upstream(reply(answer(content="hi"))) as (backend, server):
        for ask in (backend.complete(prompt), collect(backend, prompt)):
            with pytest.raises(PromptRefused):
                await ask
        assert not server.bodies


async def test_a_name_that_the_settings_allow_is_let_through() -> None:
    async with upstream(reply(answer(content="hi", model="big-2026-01")), served_as=("big-2026-01",)) as (backend, _):
        assert (await backend.complete(HELLO)).text == "hi"


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": ["x"]}, {"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": [float("nan")]}, {"index": 1, "embedding": [1.0]}],
    ],
)
async def test_malformed_embeddings_are_a_failure(data: Any) -> None:
    async with upstream(reply({"model": "big", "data": data}), embeddings=True) as (backend, _):
        with pytest.raises(ModelFailed):
            await backend.embed(("a", "b"))
