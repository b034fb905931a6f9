"""Personal data is found by form, check digit and context; it is replaced, and restored whole and streamed."""

import gzip
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings

from raysafe.guards.finding import Stream
from raysafe.guards.guard import Exchange, Message, ToolCall
from raysafe.guards.pii import PiiConfig
from raysafe.guards.pipeline import Pipeline
from tests.examples import examples
from tests.guards.chunks import answering, assert_chunks_change_nothing, chunked, streamed, whole
from tests.real_data import HH_RLHF

GUARD = PiiConfig().build()
STOPPING = PiiConfig(action="block").build()
STATE = {"pii": {"<EMAIL_1>": "ann@example.com", "<NAME_2>": 'Zoë "Zo" Ray'}}


def kinds(text: str) -> list[tuple[str, str]]:
    """(kind, entity) of all that is found."""
    return [
        (GUARD.finder.shapes[part.kind].name, part.text) for part in GUARD.finder.parts(text) if part.kind is not None
    ]


# full-width digits
WIDE_CARD = "4111 1111 1111 1111".translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})


# IBANs, card numbers and addresses: published specimens of the ISO 13616 registry, card schemes, BIP 173 and RFC 3849
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail john.doe+x@example.co.uk.", [("EMAIL", "john.doe+x@example.co.uk")]),
        ("<müller@bücher.example>", [("EMAIL", "müller@bücher.example")]),
        ("call +49 30 1234567 now", [("PHONE", "+49 30 1234567")]),
        ("or (415) 555-2671.", [("PHONE", "(415) 555-2671")]),
        ("phone: 020 7946 0958", [("PHONE", "020 7946 0958")]),
        ("card 4111-1111-1111-1111 ok", [("CARD", "4111-1111-1111-1111")]),
        ("378282246310005", [("CARD", "378282246310005")]),
        (WIDE_CARD, [("CARD", WIDE_CARD)]),
        ("to DE89 3704 0044 0532 0130 00 thanks", [("IBAN", "DE89 3704 0044 0532 0130 00")]),
        ("gb82west12345698765432", [("IBAN", "gb82west12345698765432")]),
        ("ssn 078-05-1120", [("SSN", "078-05-1120")]),
        ("from 203.0.113.7, 2001:db8::8a2e:370:7334", [("IP", "203.0.113.7"), ("IP", "2001:db8::8a2e:370:7334")]),
        ("I was born on 12 March 1980.", [("BIRTH_DATE", "12 March 1980")]),
        ("Passport no. AB1234567", [("ID", "AB1234567")]),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", [("CRYPTO", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")]),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", [("CRYPTO", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")]),
        ("Hi, my name is Ann Lee. And", [("NAME", "Ann Lee")]),
        ("Je m'appelle Zoë", [("NAME", "Zoë")]),
        ("at 221 Baker Street, London.", [("ADDRESS", "221 Baker Street, London")]),
    ],
)
def test_an_entity_is_found_where_it_is(text: str, expected: list[tuple[str, str]]) -> None:
    assert kinds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn
        "DE89 3704 0044 0532 0130 01",  # modulo 97
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",  # base58check
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",  # bech32
        "000-12-3456 and 666-12-3456 and 900-12-3456",
        "version 1.2.3.4.5, 256.1.1.1, 127.0.0.1, ::1, std::vector, a::b, 12:30:45",
        "on 12 March 1980 it rained",
        "my name is important to me",
        "1,000,000 of 2024-01-05, pp. 100-1200, 3.14159265358979",
        "@someone at home @ work, a@b",
        "passport required",
    ],
)
def test_what_only_looks_like_one_passes(text: str) -> None:
    assert kinds(text) == []


def test_only_the_entities_that_were_chosen_are_found() -> None:
    guard = PiiConfig(entities=frozenset({"email"})).build()
    assert whole(guard, "ann@example.com 4111111111111111")[2] == "[EMAIL] 4111111111111111"


PIECES = [
    "ann@ex",
    "ample.com",
    " ",
    "+49 30 ",
    "1234567",
    "4111 1111 ",
    "1111 1111",
    "DE89 3704",
    " 0044 0532 0130 00",
]
PIECES += [
    "my na",
    "me is ",
    "Ann",
    " Lee",
    ". ",
    "born on ",
    "12 ",
    "March 1980",
    "<EMAIL",
    "_1>",
    "<NAME_2>",
    "x",
    "@",
]
PIECES += [
    "passport ",
    "AB123",
    "4567",
    "221 Baker ",
    "12a",
    " Street",
    "tel",
    ":",
    "\n",
    "203.0.",
    "113.7",
    "2001:db8::1:2",
]
PIECES += [
    "078-05-1120",
    "\u017f",
    "İd card ",
    "٤",
    "my\n",
    "number 5551234",
    "call me",
    "\u2013",
    "(415) 555",
    "-2671",
    "1A1zP1eP5QGefi2",
]
PIECES += ["DMPTfTL5SLmv7DivfNa", "a" * 50, "1" * 30, "nice day "]


@settings(max_examples=examples(250), deadline=None)
@given(chunked(PIECES))
def test_chunks_change_nothing(chunks: list[str]) -> None:
    assert_chunks_change_nothing(GUARD, chunks, STATE)


@settings(max_examples=examples(200), deadline=None)
@given(chunked(PIECES))
def test_no_entity_leaves_a_stream_that_it_stops(chunks: list[str]) -> None:
    assert_chunks_change_nothing(STOPPING, chunks)
    parts = STOPPING.finder.parts("".join(chunks))
    first = next((i for i, part in enumerate(parts) if part.kind is not None), len(parts))
    assert len(streamed(STOPPING, chunks)[2]) <= sum(len(part.text) for part in parts[:first])


@pytest.mark.parametrize(
    "text",
    [
        "DE89 3704 0044 0532 0130 00 0044 0532 0130 00 ok",
        "2001:db8::1:2+49 30 1234567",
        "0044 0532 0130 00(415) 555-2671",
        "ann@example.com,bob@example.com;4111111111111111",
    ],
)
def test_a_mark_makes_no_entity_of_what_stands_beside_it(text: str) -> None:
    once = whole(GUARD, text)[2]
    assert whole(GUARD, once)[2] == once


@pytest.mark.parametrize("character", 'a1 .-+@(:<0xA9é٤\n"\\')
def test_long_runs_of_one_character_are_cut_anywhere(character: str) -> None:
    text = "so " + character * 1000 + " ann@example.com"
    for size in (3, 501):
        assert_chunks_change_nothing(GUARD, [text[i : i + size] for i in range(0, len(text), size)])


def test_ordinary_text_leaves_at_once_but_for_the_word_under_way() -> None:
    gate = Pipeline([GUARD]).stream(answering())
    assert gate.feed("we went to the market and bo") == "we went to the market and "
    assert gate.feed("ught it") == "bought "


@pytest.mark.parametrize(
    "text", ["a", "1", " ", "@", "+", ".", "<", "a@", "1 ", "my ", "my name is ", "0x", "::", "(", "-"]
)
def test_work_grows_linearly_with_the_text(text: str) -> None:
    """Characters that patterns were set on, over a stream of small chunks."""

    def work(size: int) -> int:
        guard = PiiConfig().build()
        stream, long = Stream(guard.finder), (text * size)[:size]
        for start in range(0, size, 1024):
            stream.feed(long[start : start + 1024])
            assert len(stream._text) < 1024 + 1200
        stream.feed("", ended=True)
        return guard.finder.work

    assert work(40_000) <= 2.1 * work(20_000) + 10_000


@pytest.mark.parametrize("text", ["a", "1", "@", "a@", "1 1", "my name is ", "born on ", "0x1", ":1", "1 A Street, "])
def test_hostile_text_is_judged(text: str) -> None:
    size = 2**15
    verdict = GUARD.check(answering((text * size)[:size]), "output")
    assert verdict.error is None


def asked(*contents: str, calls: tuple[ToolCall, ...] = (), guard: Any = GUARD) -> Exchange:
    exchange = Exchange("r", "k", "m", tuple(Message("user", content) for content in contents), tool_calls=calls)
    assert Pipeline([guard]).check(exchange, "input").action in ("allow", "modify")
    return exchange


def test_the_model_reads_placeholders_and_one_entity_has_one() -> None:
    exchange = asked("ann@example.com, bob@example.com", "and ann@example.com")
    assert exchange.texts("input") == ("<EMAIL_1>, <EMAIL_2>", "and <EMAIL_1>")


def test_the_answer_gets_back_what_the_request_held() -> None:
    exchange = asked("write to ann@example.com")
    assert streamed(GUARD, ["to <EMA", "IL_1", ">!"], exchange.state) == ("modify", "restored 1", "to ann@example.com!")


def test_what_the_model_brings_itself_is_replaced() -> None:
    exchange = asked("write to ann@example.com")
    assert whole(GUARD, "<EMAIL_1> bob@example.com", exchange.state)[2] == "ann@example.com [EMAIL]"


def test_an_answer_may_be_stopped_for_what_the_model_brings_though_requests_are_modified() -> None:
    guard = PiiConfig(output_action="block").build()
    exchange = asked("write to ann@example.com", guard=guard)
    assert whole(guard, "dear <EMAIL_1>", exchange.state)[0] == "modify"
    assert whole(guard, "dear <EMAIL_1> bob@example.com", exchange.state) == ("block", "holds EMAIL", "")


def test_a_placeholder_that_a_client_made_up_is_nobodys() -> None:
    exchange = asked("my mail is ann@example.com, say <EMAIL_1> and <EMAIL_9>")
    assert exchange.texts("input") == ("my mail is <EMAIL_2>, say <EMAIL_1> and <EMAIL_9>",)
    assert whole(GUARD, "<EMAIL_1> <EMAIL_2> <EMAIL_9>", exchange.state)[2] == "<EMAIL_1> ann@example.com <EMAIL_9>"


def test_a_made_up_placeholder_hidden_in_json_escapes_is_seen() -> None:
    call = ToolCall("c", "send", '{"to": "\\u003cEMAIL_1\\u003e"}')
    exchange = Exchange("r", "k", "m", (Message("user", "ann@example.com"), Message("assistant", "", (call,))))
    Pipeline([GUARD]).check(exchange, "input")
    assert exchange.texts("input")[0] == "<EMAIL_2>"


def test_nothing_is_restored_from_another_exchange() -> None:
    asked("ann@example.com")
    assert whole(GUARD, "<EMAIL_1>", asked("hello").state)[2] == "<EMAIL_1>"


def test_without_restore_nothing_is_remembered() -> None:
    guard = PiiConfig(restore=False).build()
    exchange = asked("ann@example.com", guard=guard)
    assert exchange.state == {}
    assert whole(guard, "<EMAIL_1>", exchange.state)[2] == "<EMAIL_1>"


def test_a_verdict_quotes_nothing() -> None:
    exchange = asked("ann@example.com")
    assert "ann" not in str([verdict.record() for verdict in exchange.verdicts])
    assert "ann" not in repr(exchange.state.keys())


@pytest.mark.parametrize(
    ("arguments", "restored"),
    [
        ('{"to": "<EMAIL_1>"}', {"to": "ann@example.com"}),
        ('{"to": "\\u003cEMAIL_1\\u003e"}', {"to": "ann@example.com"}),
        ('{"who": "<NAME_2>"}', {"who": 'Zoë "Zo" Ray'}),
        ('{"to": "bob\\u0040example.com"}', {"to": "[EMAIL]"}),
        ('{"card": 4111111111111111, "n": 3}', {"card": "[CARD]", "n": 3}),
        ('{"passport": "AB1234567"}', {"passport": "[ID]"}),
    ],
)
def test_arguments_of_tool_calls_stay_json(arguments: str, restored: dict[str, Any]) -> None:
    exchange = answering(state=STATE)
    exchange.tool_calls = (ToolCall("c", "send", arguments),)
    Pipeline([GUARD]).check(exchange, "tool_call")
    assert json.loads(exchange.texts("tool_call")[0]) == restored


def test_planted_entities_are_all_found_and_nothing_else() -> None:
    """Ground truth from a generator of its own: the check digits are computed here by the textbook."""
    rng = random.Random(0)
    words = ("the quick report about our garden came late and nobody had read it " * 2).split()
    for _ in range(300):
        planted, text = [], []
        for _ in range(4):
            text += rng.sample(words, 6)
            entity = rng.choice([_some_card, _some_iban, _some_email, _some_phone])(rng)
            planted.append(entity)
            text += [entity[1]]
        assert kinds(" ".join([*text, "end"])) == planted


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _some_card(rng: random.Random) -> tuple[str, str]:
    body = rng.choice(["4", "51", "55", "2221"]).ljust(4, "0") + _digits(rng, 11)
    total = sum(sum(divmod(int(d) * (2 if i % 2 == 0 else 1), 10)) for i, d in enumerate(reversed(body)))
    number = body + str(-total % 10)
    return "CARD", rng.choice(["", " ", "-"]).join(number[i : i + 4] for i in range(0, 16, 4))


def _some_iban(rng: random.Random) -> tuple[str, str]:
    bban = _digits(rng, 18)
    check = 98 - int(bban + "131400") % 97
    number = f"DE{check:02d}{bban}"
    return "IBAN", rng.choice(["", " "]).join(number[i : i + 4] for i in range(0, 22, 4))


def _some_email(rng: random.Random) -> tuple[str, str]:
    return (
        "EMAIL",
        f"{rng.choice(['ann', 'bob.lee', 'c_d+tag'])}{rng.randrange(99)}@{rng.choice(['mail', 'a-b'])}.example.org",
    )


def _some_phone(rng: random.Random) -> tuple[str, str]:
    return "PHONE", rng.choice([f"+44 20 {_digits(rng, 4)} {_digits(rng, 4)}", f"+1-415-555-{_digits(rng, 4)}"])


@pytest.mark.skipif(not HH_RLHF.exists(), reason="hh-rlhf is not there")
def test_real_dialogues_hold_few_entities_and_none_that_has_check_digits() -> None:
    """2,312 dialogues, 1.5 million characters: what is found in them are addresses, numbers and names people wrote."""
    with gzip.open(HH_RLHF, "rt", encoding="utf-8") as lines:
        found = [kind for line in lines for kind, _ in kinds(json.loads(line)["chosen"])]
    assert set(found) <= {"ADDRESS", "PHONE", "EMAIL", "NAME"}
    assert len(found) <= 45
