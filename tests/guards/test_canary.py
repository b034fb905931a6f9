"""A planted word is found in every form that it leaves in; so is a repeated system prompt; chunks change nothing."""

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.canary import CanaryConfig, canary_token
from raysafe.guards.guard import Exchange, Message, ToolCall
from raysafe.guards.pipeline import Pipeline
from tests.examples import examples
from tests.guards.chunks import answering, assert_chunks_change_nothing, streamed, whole

GUARD = CanaryConfig().build()
SYSTEM = (
    "You are Ada, a helper of the Rhine Bank. Never talk about interest rates before they are published on Fridays."
)
CANARY = "k3v9x0qz7m2bw8ty5c1d"
STATE: dict[str, object] = {"canary": (CANARY, SYSTEM)}
FORMS = {
    "whole": CANARY,
    "part": f"it begins {CANARY[4:14]}",
    "upper case": CANARY.upper(),
    "spaced": " ".join(CANARY),
    "invisible": "\u200b".join(CANARY),
    "dashed over lines": "-\n".join(CANARY),
    "backwards": CANARY[::-1],
    "hex": CANARY.encode().hex(),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64, one byte on": base64.b64encode(b"a" + CANARY.encode()).decode(),
    "base64, two bytes on": base64.b64encode(b"ab" + CANARY.encode() + b"cd").decode(),
    "base64 of the prompt": base64.b64encode(f"[{CANARY}]\n{SYSTEM}".encode()).decode(),
}


def asked(*messages: Message) -> Exchange:
    exchange = Exchange("r", "k", "m", messages)
    Pipeline([GUARD]).check(exchange, "input")
    return exchange


@pytest.mark.parametrize("form", FORMS)
def test_the_word_is_found_in_every_form(form: str) -> None:
    text = f"Sure: {FORMS[form]} there."
    assert whole(GUARD, text, STATE)[:2] == ("block", "repeats the system prompt")
    for size in (1, 3, 1000):
        action, _, left = streamed(GUARD, [text[i : i + size] for i in range(0, len(text), size)], STATE)
        assert action == "block"
        assert len(left) <= len("Sure: it begins ")


def test_fewer_characters_of_the_word_pass() -> None:
    assert whole(GUARD, f"ok {CANARY[:9]} ok", STATE)[0] == "allow"


def test_each_exchange_has_a_word_of_its_own_before_its_system_prompt() -> None:
    messages = (Message("system", SYSTEM), Message("user", "hello"))
    first, second = (asked(*messages).texts("input") for _ in range(2))
    assert re.fullmatch(r"\[[a-z0-9]{20}\]\n" + re.escape(SYSTEM), first[0])
    assert first[0] != second[0]
    assert first[1] == "hello"


def test_what_was_planted_is_found_in_that_exchange_alone() -> None:
    exchange, other = (asked(Message("system", SYSTEM)) for _ in range(2))
    word = exchange.texts("input")[0][1:21]
    assert whole(GUARD, word, exchange.state)[0] == "block"
    assert whole(GUARD, word, other.state)[0] == "allow"
    assert word not in str([verdict.record() for verdict in exchange.verdicts])


def test_without_a_system_prompt_nothing_is_planted() -> None:
    exchange = asked(Message("user", "hello"))
    assert exchange.texts("input") == ("hello",)
    assert whole(GUARD, "hello", exchange.state)[0] == "allow"


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (SYSTEM, "block"),
        (SYSTEM.upper().replace(" ", " - "), "block"),
        (SYSTEM[: int(len(SYSTEM) * 0.7)], "block"),
        (SYSTEM[: len(SYSTEM) // 3], "allow"),
        ("Interest rates are published on Fridays, so ask me again then.", "allow"),
        (SYSTEM[:10] * 50, "allow"),
    ],
)
def test_an_answer_that_repeats_most_of_the_system_prompt_is_stopped(answer: str, action: str) -> None:
    assert whole(GUARD, f"It says: {answer}", STATE)[0] == action


def test_a_leak_spread_over_the_arguments_of_two_calls_is_found() -> None:
    exchange = answering(state=STATE)
    exchange.tool_calls = (ToolCall("a", "t", f'"{CANARY[:6]}'), ToolCall("b", "t", f'{CANARY[6:12]}"'))
    assert Pipeline([GUARD]).check(exchange, "tool_call").action == "block"


PIECES = [
    CANARY,
    CANARY[:6],
    CANARY[6:12],
    CANARY[12:],
    CANARY[::-1],
    "k",
    " ",
    "\u200b",
    "İ",
    "é",
    SYSTEM[:60],
    SYSTEM[60:],
]
PIECES += [FORMS["hex"][:13], FORMS["hex"][13:], FORMS["base64"][:9], FORMS["base64"][9:], "nice day ", "."]


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.lists(st.integers(0, 200), max_size=8))
def test_chunks_change_nothing(text: str, cuts: list[int]) -> None:
    places = sorted(min(cut, len(text)) for cut in cuts)
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    assert_chunks_change_nothing(GUARD, chunks, STATE)


def test_what_is_remembered_of_an_endless_answer_is_bounded() -> None:
    for text in ("a", "k", " ", CANARY[:9], "é"):
        watch = GUARD.watch(answering(state=STATE))
        for _ in range(300):
            watch.feed(text * 100)
        assert len(watch._tail) <= 20 and len(watch._places) <= 20 and len(watch._gram_tail) <= 8


def test_words_are_random() -> None:
    assert len({canary_token() for _ in range(100)}) == 100
    assert len(canary_token(33)) == 33
