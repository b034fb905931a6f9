"""A gateway's view of another server: a real one on loopback, which answers what the test scripts and sees who goes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from raysafe.errors import ConfigError
from raysafe.guards.guard import Message, Tool, ToolCall
from raysafe.serving.backend import (
    Completion,
    Embeddings,
    ModelFailed,
    NotOffered,
    Overloaded,
    Piece,
    Prompt,
    PromptRefused,
)
from raysafe.serving.upstream import UpstreamBackend, UpstreamSettings

pytestmark = pytest.mark.anyio
WEATHER = Tool("weather", json.dumps({"name": "weather", "parameters": {"type": "object"}}))
HELLO = Prompt((Message("user", "héllo"),), 9, 0.5, 0.9, ("\n",), 3)
TOOLS = Prompt((Message("user", "hello"),), tools=(WEATHER,))
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Server:
    """Answers each request by `script`; keeps what was asked."""

    def __init__(self, script: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._script = script
        self.heads: list[str] = []
        self.bodies: list[Any] = []
        self.gone = asyncio.Event()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                size = int(self.heads[-1].lower().partition("content-length:")[2].split("\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(size)))
                watch = asyncio.create_task(reader.read(1))
                script = asyncio.create_task(self._script(writer))  # type: ignore[arg-type]
                await asyncio.wait({watch, script}, return_when=asyncio.FIRST_COMPLETED)
                if watch.done():
                    script.cancel()
                    self.gone.set()
                    return
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
                await script
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.gone.set()
        finally:
            writer.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def upstream(script: Any, **settings: Any) -> AsyncIterator[tuple[UpstreamBackend, Server]]:
    server = Server(script)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    given = {"base_url": f"http://127.0.0.1:{port}/v1", "model": "big", **settings}
    backend = UpstreamBackend(UpstreamSettings.parse(given))
    try:
        yield backend, server
    finally:
        await backend.close()
        listening.close()
        await server.close()


def reply(
    content: bytes | str | dict[str, Any], status: int = 200, kind: str = "application/json", **headers: str
) -> Any:
    content = json.dumps(content) if isinstance(content, dict) else content
    content = content.encode() if isinstance(content, str) else content
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()

    return script


def streamed(*events: Any, wait: bool = False, end: bytes = b"0\r\n\r\n") -> Any:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in events:
            data = event if isinstance(event, bytes) else f"data: {as_text(event)}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        if wait:
            await asyncio.Event().wait()
        writer.write(end)
        await writer.drain()

    return script


def as_text(event: Any) -> str:
    return event if isinstance(event, str) else json.dumps(event)


def answer(finish: str | None = "stop", usage: Any = USAGE, model: str = "big", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def delta(finish: str | None = None, **part: Any) -> dict[str, Any]:
    return {"model": "big", "choices": [{"index": 0, "finish_reason": finish, "delta": part}], "usage": None}


def call(name: str | None = "weather", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


async def collect(backend: UpstreamBackend, prompt: Prompt) -> list[Piece]:
    return [piece async for piece in backend.stream(prompt)]


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


async def test_the_official_client_of_this_gateway_sees_what_the_endpoint_said() -> None:
    from tests.serving.conftest import make_desk

    events = [delta(content="Hello "), delta(content="there."), delta("stop"), "[DONE]"]
    async with upstream(streamed(*events)) as (backend, _):
        desk = make_desk(backend)
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        parts = [chunk async for chunk in await desk.openai.chat.completions.create(**asked)]
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == "Hello there."
