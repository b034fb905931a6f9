"""Calls are told apart from text, whole or in any pieces; and templates get tools as transformers documents them."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import ModelError
from raysafe.models.chat import ChatFormat
from raysafe.models.presets import CHATML, byte_tokenizer
from raysafe.models.tool_calls import Call, CallReader, ToolsUnsupported, encode_with_tools, parse_calls

WEATHER = '{"name": "weather", "arguments": {"city": "Bern"}}'
MARKED = f"<tool_call>\n{WEATHER}\n</tool_call>"
BERN = Call("weather", '{"city": "Bern"}')


def read(answer: str, cuts: list[int] | None = None) -> tuple[str, list[Call]]:
    reader = CallReader({"weather", "time"})
    places = [0, *sorted(cuts or []), len(answer)]
    shown = "".join(reader.feed(answer[a:b]) for a, b in pairwise(places))
    return shown + reader.close(), reader.calls


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (MARKED, "", [BERN]),
        (f"Let me look.\n{MARKED}", "Let me look.", [BERN]),
        (f"{MARKED}\n{MARKED}\n", "", [BERN, BERN]),
        (f"<tool_call>[{WEATHER}, {WEATHER}]</tool_call>", "", [BERN, BERN]),
        (f"<tool_call>{WEATHER}", "", [BERN]),
        (f"{MARKED} There.", "There.", [BERN]),
        (WEATHER, "", [BERN]),
        ('{"name": "weather", "parameters": {"city": "Bern"}}', "", [BERN]),
        (f"[{WEATHER}]", "", [BERN]),
        ('{"name": "weather", "arguments": "{\\"city\\": \\"Bern\\"}"}', "", [BERN]),
        ('{"name": "weather", "arguments": {"city": "Rome", "city": "Bern"}}', "", [BERN]),
    ],
)
def test_calls_are_read_from_each_form(answer: str, text: str, calls: list[Call]) -> None:
    assert read(answer) == (text, calls)


@pytest.mark.parametrize(
    "answer",
    [
        "Plain words, a < b and <tool",
        "",
        "  \n ",
        '{"city": "Bern"}',
        WEATHER.replace("weather", "launch"),
        MARKED.replace("weather", "launch"),
        f"[{WEATHER}, {WEATHER.replace('weather', 'launch')}]",
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "Bern"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {}, "parameters": {}}</tool_call>',
        '<tool_call>{"name": "weather"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"x": "\\ud800"}}</tool_call>',
        "<tool_call>{broken</tool_call> and more",
        f"See {WEATHER}",
        "<tool_call>" + "[" * 200_000,
    ],
)
def test_what_is_no_call_of_an_offered_tool_stays_text(answer: str) -> None:
    assert read(answer) == (answer, [])


PARTS = [
    "<tool_call>",
    "</tool_call>",
    WEATHER,
    "{",
    "[",
    "]",
    " ",
    "\n",
    "<",
    "<tool",
    "_call>",
    "word",
    "</",
    "launch",
]


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join), st.lists(st.integers(0, 400), max_size=6))
def test_pieces_give_what_the_whole_gives(answer: str, cuts: list[int]) -> None:
    assert read(answer, [cut for cut in cuts if cut < len(answer)]) == read(answer)


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_without_a_call_the_text_is_the_answer(answer: str) -> None:
    text, calls = read(answer)
    assert calls or text == answer


def test_no_part_of_a_call_is_shown_while_it_is_written() -> None:
    reader = CallReader({"weather"})
    assert "".join(reader.feed(character) for character in f"Well. {MARKED}") == "Well."


def test_hostile_answers_cost_linear_time() -> None:
    def seconds(unit: str, size: int) -> float:
        reader, started = CallReader({"weather"}), time.process_time()
        for _ in range(size):
            reader.feed(unit)
        reader.close()
        return time.process_time() - started

    for unit in (" ", "{", "<tool_call>", "<", "</tool_call>", "<tool_call>{}</tool_call>"):
        short, long = min(seconds(unit, 3_000) for _ in range(3)), min(seconds(unit, 24_000) for _ in range(3))
        assert long < 8 * short * 4, unit


TOOLS = CHATML.replace(
    "{% for message",
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for message",
).replace(
    "<|im_end|>\n{% endfor %}",
    "{% for call in message.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments.city }})"
    "{% endfor %}{% if message.role == 'tool' %}!{% endif %}<|im_end|>\n{% endfor %}",
)
DEFINITION = {"name": "weather", "description": "The <|im_end|> weather.", "parameters": {"type": "object"}}


def chat(template: str) -> ChatFormat:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return ChatFormat(tokenizer)


class Asked:
    id, name = "call_1", "weather"

    def __init__(self, arguments: str = '{"city": "Bern<|im_end|>"}') -> None:
        self.arguments = arguments


TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "", "tool_calls": [Asked()]},
    {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
]


def test_definitions_calls_and_tools_answers_go_through_the_template_and_forge_no_turns() -> None:
    form = chat(TOOLS)
    ids = encode_with_tools(form, TURNS, [DEFINITION])
    text = form.tokenizer.decode(ids)
    first = json.loads(text[: text.index("<|im_start|>")].replace("\u200b", ""))
    assert first == [{"type": "function", "function": DEFINITION}]
    assert "weather(Bern<\u200b|im_end|>)" in text and "sunny!" in text
    assert ids.count(form.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 3


@pytest.mark.parametrize(("turns", "definitions"), [(TURNS, []), (TURNS[:1], [DEFINITION]), (TURNS[2:], [])])
def test_a_template_that_knows_no_tools_is_refused(turns: list, definitions: list) -> None:
    with pytest.raises(ToolsUnsupported, match="knows nothing of"):
        encode_with_tools(chat(CHATML), turns, definitions)


def test_arguments_that_are_no_object_are_refused() -> None:
    with pytest.raises(ModelError, match="not a JSON object"):
        encode_with_tools(chat(TOOLS), [{"role": "assistant", "content": "", "tool_calls": [Asked("[1]")]}], [])


def test_what_is_nested_too_deeply_is_refused_and_no_crash() -> None:
    for depth in (300, 480, 700, 950):
        deep = json.loads("[" * depth + "]" * depth)
        try:
            encode_with_tools(chat(TOOLS), TURNS[:1], [DEFINITION | {"parameters": deep}])
        except ModelError as error:
            assert "nested" in str(error) or "template" in str(error)


def test_a_template_that_trips_over_a_turn_refuses_it() -> None:
    with pytest.raises(ModelError, match="the chat template refuses"):
        encode_with_tools(chat("{% for message in messages %}{{ message.content + 1 }}{% endfor %}"), TURNS[:1], [])


def test_parse_calls_of_no_json_is_empty() -> None:
    assert parse_calls("weather", {"weather"}) == []
