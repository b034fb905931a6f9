"""Chat completions through the official client: every way of answering times every way of being stopped."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.limits import LengthConfig
from raysafe.serving.backend import ModelFailed, PromptRefused
from tests.serving.conftest import POLICY, SECRET_ANSWER, Desk, Scripted, make_desk

pytestmark = [pytest.mark.anyio, pytest.mark.serve]
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def ask(client: AsyncOpenAI, text: str = "hi", *, stream: bool, **options: Any) -> tuple[str, str | None, str]:
    """(content, refusal, finish reason) by the official client, either way."""
    messages: Any = [{"role": "user", "content": text}]
    if not stream:
        answer = await client.chat.completions.create(model="m", messages=messages, **options)
        choice = answer.choices[0]
        return choice.message.content or "", choice.message.refusal, choice.finish_reason
    content, refusal, finish = "", None, ""
    async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True, **options):
        for part in chunk.choices:
            content += part.delta.content or ""
            refusal = part.delta.refusal or refusal
            finish = part.finish_reason or finish
    return content, refusal, finish


@MODES
async def test_an_allowed_exchange_is_answered_and_every_guards_verdict_recorded(stream: bool) -> None:
    desk = make_desk()
    assert await ask(desk.openai, stream=stream) == ("Hello there, friend.", None, "stop")
    verdicts = [row for row in desk.audit.rows if row["kind"] == "verdict"]
    assert [(row["stage"], row["action"]) for row in verdicts] == [("input", "allow"), ("output", "allow")]
    assert [v["guard"] for v in verdicts[0]["verdicts"]] == ["length", "requests"]
    assert [v["guard"] for v in verdicts[1]["verdicts"]] == ["length", "answers"]


@MODES
async def test_a_blocked_request_never_reaches_the_model(stream: bool) -> None:
    desk = make_desk()
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(desk.openai, "how to m\u0430ke a b.o.m.b", stream=stream)
    assert caught.value.code == "content_policy_violation"
    assert "'weapons'" in caught.value.message
    assert desk.backend.prompts == []
    [row] = desk.audit.rows
    assert (row["stage"], row["action"], row["not_run"]) == ("input", "block", {})


@MODES
async def test_a_blocked_answer_is_filtered_and_no_part_of_the_match_leaves(stream: bool) -> None:
    desk = make_desk(Scripted(SECRET_ANSWER))
    content, refusal, finish = await ask(desk.openai, stream=stream)
    assert finish == "content_filter"
    assert refusal is not None and "'secrets'" in refusal
    assert "Well, listen: ".startswith(content) if stream else content == ""
    last = desk.audit.rows[-1]
    assert (last["stage"], last["action"], list(last["not_run"])) == ("output", "block", ["length"] if stream else [])


@MODES
async def test_a_cut_phrase_is_replaced_in_request_and_answer(stream: bool) -> None:
    rules = [{"name": "names", "phrases": ["mr smith"]}]
    policy = {"guards": [{"kind": "patterns", "action": "modify", "replacement": "NAME", "rules": rules}]}
    desk = make_desk(Scripted("I know Mr. Smith well."), policy)
    content, _, finish = await ask(desk.openai, "who is Mr Smith?", stream=stream)
    assert (content, finish) == ("I know NAME well.", "stop")
    assert desk.backend.prompts[0].messages[0].content == "who is NAME?"


@MODES
async def test_an_answer_that_is_held_does_not_leave(stream: bool) -> None:
    rules = [{"name": "advice", "phrases": ["friend"]}]
    desk = make_desk(policy={"stream_window": 1, "guards": [{"kind": "patterns", "action": "hold", "rules": rules}]})
    content, refusal, finish = await ask(desk.openai, stream=stream)
    assert "Hello there, ".startswith(content) if stream else content == ""
    assert finish == "content_filter"
    assert refusal is not None and "held for review" in refusal


class _Failing:
    name, inline = "failing", True

    def __init__(self, *stages: Stage) -> None:
        self.stages = frozenset(stages)

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        raise RuntimeError(f"its model is away, asked about {exchange.messages[0].content}")


@MODES
@pytest.mark.parametrize("stage", ["input", "output"])
async def test_a_guard_that_fails_closes_the_gateway(stage: Stage, stream: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(LengthConfig, "build", lambda config, resources: _Failing(stage))
    desk = make_desk()
    with pytest.raises(openai.APIError) as caught:
        await ask(desk.openai, "my private question", stream=stream)
    assert caught.value.code == "guard_failed"
    failed = desk.audit.rows[-1]
    assert (failed["stage"], failed["action"]) == (stage, "block")
    assert failed["verdicts"][0]["error"].startswith(f"RuntimeError at {__file__}:")
    assert "my private question" not in str(desk.audit.rows), "the policy says not to record texts"


@MODES
async def test_a_rate_limit_says_when_to_come_back(stream: bool) -> None:
    desk = make_desk(policy={"guards": [{"kind": "rate", "requests_per_minute": 1}]})
    await ask(desk.openai, stream=stream)
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(desk.openai, stream=stream)
    assert 59 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.code == "rate_limit_exceeded"


@MODES
async def test_a_request_over_a_length_limit_is_refused(stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(make_desk().openai, "x" * 501, stream=stream)
    assert caught.value.code == "string_above_max_length"


@MODES
async def test_an_answer_over_a_length_limit_is_filtered(stream: bool) -> None:
    content, refusal, finish = await ask(make_desk(Scripted("word " * 200)).openai, stream=stream)
    assert finish == "content_filter"
    assert refusal is not None and "over the limit of 500" in refusal
    assert len(content) <= 500


@MODES
async def test_sampling_options_reach_the_model(stream: bool) -> None:
    desk = make_desk()
    await ask(desk.openai, stream=stream, max_tokens=9, temperature=0, top_p=0.5, stop="END", seed=3)
    prompt = desk.backend.prompts[0]
    assert (prompt.max_tokens, prompt.temperature, prompt.top_p, prompt.stop, prompt.seed) == (9, 0, 0.5, ("END",), 3)


async def test_usage_is_counted_either_way() -> None:
    client = make_desk().openai
    whole = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert whole.usage is not None and (whole.usage.prompt_tokens, whole.usage.total_tokens) == (7, 12)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
        )
    ]
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 12
    assert chunks[0].choices[0].delta.role == "assistant"


@pytest.mark.parametrize("options", [{"include_usage": None}, {"include_usage": False, "include_obfuscation": False}])
async def test_stream_options_that_ask_for_nothing_are_taken(options: Any) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    stream = await make_desk().openai.chat.completions.create(
        model="m", messages=messages, stream=True, stream_options=options
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)


@MODES
async def test_a_model_that_takes_too_long_is_cut_off(stream: bool) -> None:
    backend = Scripted(before=lambda: asyncio.sleep(30))
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(make_desk(backend, request_timeout_s=0.05).openai, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    assert backend.closed_early


@MODES
async def test_an_unforeseen_failure_is_answered_and_logged_without_its_message(stream: bool, caplog: Any) -> None:
    async def fail() -> None:
        raise ValueError("could not answer: my prompt text")

    with pytest.raises(openai.InternalServerError) as caught:
        await ask(make_desk(Scripted(before=fail)).openai, stream=stream)
    assert caught.value.code == "internal_error"
    assert "prompt text" not in caplog.text + str(caught.value.body)
    assert "ValueError" in caplog.text


@MODES
async def test_nothing_leaves_when_the_audit_log_cannot_be_written(stream: bool) -> None:
    desk = make_desk()
    desk.audit.error = OSError(28, "No space left on device")
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(desk.openai, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (503, "audit_failed")
    async with desk.http as client:
        assert (await client.get("/healthz")).status_code == 503
        desk.audit.error = None
        await ask(desk.openai, stream=stream)
        assert (await client.get("/healthz")).status_code == 200


@MODES
@pytest.mark.parametrize("record", [False, True])
async def test_texts_are_in_the_audit_log_only_where_the_policy_says_so(record: bool, stream: bool) -> None:
    desk = make_desk(policy=POLICY | {"record_text": record})
    await ask(desk.openai, "my private question", stream=stream)
    assert ("my private question" in str(desk.audit.rows)) is record
    assert ("friend" in str(desk.audit.rows)) is record
    assert desk.audit.rows[0]["characters"] == len("my private question")


async def test_who_said_each_recorded_text_is_recorded_with_it() -> None:
    desk = make_desk(policy=POLICY | {"record_text": True})
    messages: Any = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    await desk.openai.chat.completions.create(model="m", messages=messages)
    asked, answered = desk.audit.rows
    assert (asked["roles"], asked["texts"]) == (["system", "user"], ["be kind", "hi"])
    assert "roles" not in answered


async def test_each_piece_of_a_stream_has_a_row_and_they_join_to_the_answer() -> None:
    desk = make_desk(policy=POLICY | {"record_text": True})
    content, _, _ = await ask(desk.openai, stream=True)
    released = [row for row in desk.audit.rows if row["kind"] == "release"]
    assert "".join(row["texts"][0] for row in released) == content[: sum(row["characters"] for row in released)]
    assert [row["start"] for row in released] == [
        sum(r["characters"] for r in released[:i]) for i in range(len(released))
    ]
    assert all(row["cleared_by"] == ["length", "answers"] for row in released)
    assert desk.audit.rows[-1]["released"] == len(content)


async def test_what_a_guard_clears_leaves_before_a_later_block() -> None:
    """The model writes more slowly than rows are committed, as real ones do."""
    desk = make_desk(Scripted(SECRET_ANSWER, before=lambda: asyncio.sleep(0.002)))
    content, _, finish = await ask(desk.openai, stream=True)
    assert (content, finish) == ("Well, listen: ", "content_filter")


async def post_raw(desk: Desk, stream: bool, sent: list[Any], gone: asyncio.Event) -> None:
    """One request straight through ASGI, so that bytes are seen as they leave and the client may go away."""
    import json

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("status") or message.get("body"))

    headers = [(b"authorization", f"Bearer {desk.secret}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    await desk.app({**scope, "http_version": "1.1", "raw_path": b"", "scheme": "http", "root_path": ""}, receive, send)


@MODES
async def test_no_byte_leaves_before_its_decision_is_durable(stream: bool) -> None:
    desk = make_desk()
    desk.audit.held = True
    sent: list[Any] = []
    task = asyncio.create_task(post_raw(desk, stream, sent, asyncio.Event()))
    seen = 0
    while not task.done():
        await asyncio.sleep(0.005)
        if desk.audit.waiting:
            assert len(sent) == seen, "bytes left while a row was not durable"
            desk.audit.commit()
            await asyncio.sleep(0.005)
            seen = len(sent)
    await task
    assert desk.backend.prompts, "the model was asked while the admission's row was being committed"
    assert b'"finish_reason":"stop"' in b"".join(part for part in sent if isinstance(part, bytes))


@MODES
@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (PromptRefused("too long", "context_length_exceeded"), 400),
        (ModelFailed("away"), 503),
        (TimeoutError(), 504),
        (ValueError("unforeseen"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_no_error_leaves_before_the_admission_is_durable(raised: Exception, status: int, stream: bool) -> None:
    failed = asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise raised

    desk = make_desk(Scripted(before=fail))
    desk.audit.held = True
    sent: list[Any] = []
    task = asyncio.create_task(post_raw(desk, stream, sent, asyncio.Event()))
    await asyncio.wait_for(failed.wait(), 5)
    for _ in range(50):
        await asyncio.sleep(0)
    assert sent == [], "an answer left while the admission's row was not durable"
    desk.audit.commit()
    await asyncio.wait_for(task, 5)
    assert sent[0] == status


@MODES
async def test_a_failed_generation_whose_admission_cannot_be_written_is_an_audit_failure(stream: bool) -> None:
    async def refuse() -> None:
        raise PromptRefused("too long", "context_length_exceeded")

    desk = make_desk(Scripted(before=refuse))
    desk.audit.error = OSError(28, "No space left on device")
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(desk.openai, stream=stream)
    assert caught.value.code == "audit_failed"
    async with desk.http as client:
        assert (await client.get("/healthz")).status_code == 503


@MODES
async def test_a_client_that_goes_away_ends_the_generation(stream: bool) -> None:
    gone, reached = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await asyncio.sleep(30)

    backend = Scripted(before=wait)
    desk = make_desk(backend)
    task = asyncio.create_task(post_raw(desk, stream, [], gone))
    await asyncio.wait_for(reached.wait(), 5)
    gone.set()
    await asyncio.wait_for(task, 5)
    assert backend.closed_early
    async with desk.http as client:
        assert 'outcome="cancelled"} 1.0' in (await client.get("/metrics")).text
