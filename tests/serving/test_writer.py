"""A language model behind the gateway: a real engine on a tiny random Llama, and one whose answers the test writes."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from raysafe.guards.guard import Message, Tool, ToolCall
from raysafe.models.chat import ChatFormat
from raysafe.models.generate.rows import Row
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.language import load_policy, load_tokenizer
from raysafe.models.presets import CHATML
from raysafe.serving.backend import ModelFailed, NotOffered, Overloaded, Piece, Prompt, PromptRefused
from raysafe.serving.replicas import ReplicaSettings
from raysafe.serving.writer import Writer

pytestmark = pytest.mark.anyio
HELLO = (Message("user", "hello"),)
SETTINGS = ReplicaSettings(folder="preset:tiny", max_tokens=8)
WITH_TOOLS = CHATML.replace("{% for message", "{% if tools %}{{ tools | tojson }}{% endif %}{% for message", 1)
WEATHER = Tool("weather", json.dumps({"name": "weather", "parameters": {"type": "object"}}))
CALL = '{"name": "weather", "arguments": {"city": "Bern"}}'


@pytest.fixture(scope="module")
def writer() -> Any:
    tokenizer = load_tokenizer("preset:tiny")
    engine = TransformersEngine(load_policy("preset:tiny"), tokenizer)
    writer = Writer(SETTINGS, engine, ChatFormat(tokenizer), 64)
    yield writer
    writer.close()


class Dictated:
    """An engine and its pool: a row gets the tokens of `text`, one a step; it waits while `held` and at `pause_at`."""

    def __init__(self, text: str) -> None:
        self.tokenizer = load_tokenizer("preset:tiny")
        self.tokens = self.tokenizer(text)["input_ids"]
        self.rows: list[Row] = []
        self.prompts: list[tuple[int, ...]] = []
        self.dropped: list[Row] = []
        self.held = self.broken = False
        self.pause_at = 0

    def pool(self, max_rows: int) -> Any:
        return self

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        self.prompts += [row.prompt for row in rows]
        taken = [] if self.rows else list(rows)[:1]
        self.rows += taken
        return taken

    def drop(self, rows: Sequence[Row]) -> None:
        self.dropped += rows
        self.rows = [row for row in self.rows if row not in rows]

    def step(self) -> Any:
        if self.broken:
            failed, self.rows = self.rows, []
            return [(row, RuntimeError("no memory")) for row in failed]
        for row in list(self.rows) if not self.held else ():
            if self.pause_at and len(row.tokens) == self.pause_at:
                continue
            row.tokens.append(self.tokens[len(row.tokens)])
            if row.writer is not None:
                row.writer.write(row.tokens[-1])
            if len(row.tokens) in (len(self.tokens), row.limit):
                row.finish = "stop" if len(row.tokens) == len(self.tokens) else "length"
                self.rows.remove(row)
        return []


def dictated(text: str, template: str = WITH_TOOLS, **settings: Any) -> tuple[Writer, Dictated]:
    engine = Dictated(text)
    engine.tokenizer.chat_template = template
    given = SETTINGS.model_copy(update={"max_tokens": 500, **settings})
    return Writer(given, engine, ChatFormat(engine.tokenizer), 2000), engine  # type: ignore[arg-type]


async def stream(writer: Writer, prompt: Prompt) -> list[Piece]:
    return [piece async for piece in writer.stream(prompt)]


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


@pytest.mark.parametrize(
    "prompt", [Prompt(HELLO, 12, temperature=0), Prompt(HELLO, 12, seed=-5), Prompt(HELLO, 12, seed=1 << 70)]
)
async def test_a_stream_joins_to_the_whole_answer_with_the_same_counts(writer: Writer, prompt: Prompt) -> None:
    whole, pieces = await writer.complete(prompt), await stream(writer, prompt)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1] == Piece("", whole.prompt_tokens, whole.completion_tokens, whole.finish_reason)


async def test_answers_at_once_are_those_given_alone(writer: Writer) -> None:
    prompts = [Prompt((Message("user", "word " * n),), 6, temperature=n % 2, seed=n) for n in range(1, 5)]
    together = await asyncio.gather(*(writer.complete(prompt) for prompt in prompts))
    assert list(together) == [await writer.complete(prompt) for prompt in prompts]


async def test_without_a_seed_answers_differ(writer: Writer) -> None:
    answers = [await writer.complete(Prompt(HELLO, 12)) for _ in range(3)]
    assert len({answer.text for answer in answers}) == 3


async def test_a_prompt_beyond_the_context_is_refused_either_way(writer: Writer) -> None:
    for prompt in (Prompt((Message("user", "x" * 60),)), Prompt(HELLO, 60)):
        for ask in (writer.complete, lambda prompt: stream(writer, prompt)):
            with pytest.raises(PromptRefused, match="context is 64 tokens") as refused:
                await ask(prompt)
            assert refused.value.code == "context_length_exceeded"


async def test_without_a_limit_an_answer_ends_at_the_replicas_own(writer: Writer) -> None:
    assert (await writer.complete(Prompt(HELLO, temperature=0))).completion_tokens <= 8


async def test_a_raw_prompt_has_no_template_around_it_and_forges_no_turn() -> None:
    writer, engine = dictated("ok")
    await writer.complete(Prompt((Message("user", "Once<|im_end|>"),), raw=True))
    assert engine.tokenizer.decode(engine.prompts[0]) == "Once<\u200b|im_end|>"
    with pytest.raises(PromptRefused, match="the prompt is empty"):
        await writer.complete(Prompt((Message("user", ""),), raw=True))
    writer.close()


async def test_calls_come_apart_from_the_text_whole_and_with_the_last_piece() -> None:
    writer, _ = dictated(f"Let me look.\n<tool_call>{CALL}</tool_call>")
    prompt = Prompt(HELLO, tools=(WEATHER,))
    whole, pieces = await writer.complete(prompt), await stream(writer, prompt)
    for answer in (whole, pieces[-1]):
        assert [(call.name, call.arguments) for call in answer.tool_calls] == [("weather", '{"city": "Bern"}')]
        assert answer.finish_reason == "tool_calls"
    assert whole.text == "".join(piece.text for piece in pieces) == "Let me look."
    assert not any(piece.tool_calls for piece in pieces[:-1])
    assert whole.tool_calls[0].id != pieces[-1].tool_calls[0].id
    writer.close()


@pytest.mark.parametrize("prompt", [Prompt(HELLO), Prompt(HELLO, tools=(WEATHER,), tool_choice="none")])
async def test_without_tools_to_call_an_answer_is_text(prompt: Prompt) -> None:
    writer, engine = dictated(CALL)
    answer = await writer.complete(prompt)
    assert (answer.text, answer.tool_calls, answer.finish_reason) == (CALL, (), "stop")
    assert "weather" not in engine.tokenizer.decode(engine.prompts[0])
    writer.close()


@pytest.mark.parametrize(
    ("prompt", "template", "code"),
    [
        (Prompt(HELLO, tools=(WEATHER,), tool_choice="required"), WITH_TOOLS, "unsupported"),
        (Prompt(HELLO, tools=(WEATHER,), tool_choice="weather"), WITH_TOOLS, "unsupported"),
        (Prompt(HELLO, tools=(WEATHER,)), CHATML, "unsupported"),
        (Prompt((Message("tool", "sunny", (), "call_1"),)), CHATML, "unsupported"),
        (Prompt((Message("assistant", "", (ToolCall("1", "weather", "{}"),)),)), CHATML, "unsupported"),
        (Prompt(HELLO, tools=(Tool("weather", "[]"),)), WITH_TOOLS, "invalid_messages"),
        (Prompt((Message("user", "a\ud800b"),)), WITH_TOOLS, "invalid_messages"),
        (Prompt((Message("user", "a\ud800b"),), raw=True), WITH_TOOLS, "invalid_messages"),
    ],
)
async def test_what_the_model_cannot_be_asked_is_refused(prompt: Prompt, template: str, code: str) -> None:
    writer, _ = dictated("ok", template)
    with pytest.raises(PromptRefused) as refused:
        await writer.complete(prompt)
    assert refused.value.code == code
    writer.close()


async def test_closing_a_stream_frees_its_place() -> None:
    writer, engine = dictated("word " * 50)
    engine.pause_at = 9
    pieces = writer.stream(Prompt(HELLO))
    await anext(pieces)
    await pieces.aclose()
    await until(lambda: engine.dropped)
    engine.pause_at = 0
    assert (await writer.complete(Prompt(HELLO))).text == "word " * 50
    writer.close()


async def test_cancelling_a_whole_answer_frees_its_place() -> None:
    writer, engine = dictated("word")
    engine.held = True
    task = asyncio.create_task(writer.complete(Prompt(HELLO)))
    await until(lambda: engine.rows)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: engine.dropped)
    writer.close()


async def test_a_full_queue_is_overload() -> None:
    writer, engine = dictated("word", max_waiting=1)
    engine.held = True
    tasks = [asyncio.create_task(writer.complete(Prompt(HELLO)))]
    await until(lambda: engine.rows)
    tasks.append(asyncio.create_task(writer.complete(Prompt(HELLO))))
    await until(lambda: len(engine.prompts) > 1)
    for ask in (writer.complete(Prompt(HELLO)), stream(writer, Prompt(HELLO))):
        with pytest.raises(Overloaded) as full:
            await ask
        assert 1 <= full.value.retry_after_s <= 60
    engine.held = False
    await asyncio.gather(*tasks)
    writer.close()


async def test_a_model_that_fails_says_its_errors_name_alone() -> None:
    writer, engine = dictated("word")
    engine.broken = True
    for ask in (writer.complete(Prompt(HELLO)), stream(writer, Prompt(HELLO))):
        with pytest.raises(ModelFailed, match=r"^RuntimeError$"):
            await ask
    writer.close()


async def test_a_writer_embeds_nothing(writer: Writer) -> None:
    with pytest.raises(NotOffered):
        await writer.embed(("text",))
