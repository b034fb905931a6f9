"""A text from which phrases were cut holds none of them, whole or streamed, and each character is copied once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import ConfigError
from raysafe.guards.cutting import Cutter, Held, merge
from raysafe.guards.guard import Exchange, Message, Verdict
from raysafe.guards.matcher import Hit, Scan
from raysafe.guards.patterns import PatternGuard, PatternsConfig
from raysafe.guards.pipeline import Pipeline
from tests.examples import examples


def cutting(rules: dict[str, list[str]], replacement: str = "[removed]") -> PatternGuard:
    listed = [{"name": name, "phrases": phrases} for name, phrases in rules.items()]
    return PatternsConfig.parse({"action": "modify", "replacement": replacement, "rules": listed}).build()


def whole(guard: PatternGuard, text: str) -> Verdict:
    return guard.check(Exchange("r", "k", "m", (), output=text), "output")


def streamed(guard: PatternGuard, chunks: list[str]) -> tuple[Verdict, str]:
    """(verdict, what left)."""
    gate = Pipeline([guard]).stream(Exchange("r", "k", "m", ()))
    left = "".join([*map(gate.feed, chunks), gate.finish()])
    assert gate.decision is not None
    return gate.decision.verdicts[0], left


@pytest.mark.parametrize(
    ("rules", "text", "left"),
    [
        ({"names": ["mr smith"], "weapons": ["make {0,3} bomb"]}, "make mr smith bomb", "[removed]"),
        ({"size": ["big bomb"], "weapons": ["make a {0,3} bomb now"]}, "so make a big bomb now!", "so [removed]!"),
        ({"r": ["kill him", "him now", "now please"]}, "go kill him now please, ok", "go [removed], ok"),
        ({"r": ["kill him", "kill him now"]}, "kill him now", "[removed]"),
        ({"r": ["bad word"]}, "bad bad word word", "bad [removed] word"),
        ({"r": ["bomb"]}, "say \u249d\u24aa\u24a8\u249d now", "say [removed] now"),
        ({"r": ["bomb"]}, "bomb bomb", "[removed] [removed]"),
    ],
)
def test_phrases_that_overlap_are_cut_as_one(rules: dict[str, list[str]], text: str, left: str) -> None:
    guard = cutting(rules)
    assert whole(guard, text).replacement == (left,)
    assert streamed(guard, list(text))[1] == left
    assert whole(guard, left).action == "allow"


def test_a_phrase_that_is_found_late_joins_only_what_it_overlaps() -> None:
    spans: list[tuple[int, int]] = []
    merge(spans, [Hit(0, 3, 0), Hit(5, 8, 0), Hit(12, 14, 0), Hit(6, 10, 0), Hit(0, 1, 0), Hit(10, 12, 0)])
    assert spans == [(0, 3), (5, 10), (10, 12), (12, 14)]


def test_a_cut_that_brings_the_words_of_a_phrase_together_blocks_the_text() -> None:
    guard = cutting({"names": ["mr smith"], "weapons": ["make {0,3} bomb"]})
    text = "make one two mr smith bomb now"
    verdict = whole(guard, text)
    assert (verdict.action, verdict.reason) == ("block", "matches 'weapons' once other phrases are cut out")
    assert verdict.replacement is None
    said, left = streamed(guard, list(text))
    assert (said.action, said.reason, left) == ("block", verdict.reason, "")


def test_a_cut_that_forms_a_phrase_over_two_messages_blocks_them() -> None:
    guard = cutting({"names": ["mr smith"], "weapons": ["make {0,3} bomb"]})
    messages = tuple(Message("user", text) for text in ("make one", "two mr smith", "bomb"))
    assert guard.check(Exchange("r", "k", "m", messages), "input").action == "block"


RULES = {"one": ["a b", "mr smith"], "two": ["(a|c) {0,2} d", "b {1,2} c"], "three": ["文字", "e {0,1} (f)? g"]}
PIECES = ["a", "b", "c", "d", "e", "f", "g", " ", " a ", " b ", " c ", " d ", "mr smith", "文", "字", ".", "$", "\n"]
PIECES += ["\u200b", "\u249c", "\u249d", "'", " CUT ", "x"]
GUARDS = [cutting(RULES, replacement) for replacement in ("CUT", "[removed]", "x f", "7")]
chunks = st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=8)


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(GUARDS), chunks)
def test_what_is_left_is_never_matched_by_the_same_guard_and_streams_as_it_reads_whole(
    guard: PatternGuard, chunks: list[str]
) -> None:
    text = "".join(chunks)
    verdict = whole(guard, text)
    said, left = streamed(guard, chunks)
    assert (said.action, said.reason, said.replacement) == (verdict.action, verdict.reason, verdict.replacement)
    assert whole(guard, left).action == "allow"
    if verdict.action != "block":
        assert left == (text if verdict.replacement is None else verdict.replacement[0])


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(GUARDS), st.lists(chunks.map("".join), min_size=1, max_size=4))
def test_messages_that_were_cut_are_never_matched_by_the_same_guard(guard: PatternGuard, contents: list[str]) -> None:
    exchange = Exchange("r", "k", "m", tuple(Message("user", content) for content in contents))
    if Pipeline([guard]).check(exchange, "input").action != "block":
        again = Exchange("r", "k", "m", exchange.admitted())
        assert guard.check(again, "input").action == "allow"


@settings(max_examples=examples(200), deadline=None)
@given(chunks)
def test_what_has_left_stands_for_the_beginning_that_is_settled(chunks: list[str]) -> None:
    """A guard that fails open goes on after `settled` characters of the answer: none are lost and none come twice."""
    matcher, text = cutting(RULES).matcher, "".join(chunks)
    spans: list[tuple[int, int]] = []
    scan = Scan(matcher)
    merge(spans, [*scan.feed(text), *scan.finish()])
    cutter, left = Cutter(matcher, "7"), ""
    for chunk in [*chunks, None]:
        left += cutter.finish() if chunk is None else cutter.feed(chunk)
        settled = cutter.settled
        assert all(end <= settled or settled <= start for start, end in spans)
        cut = [(start, end) for start, end in spans if end <= settled]
        kept = [text[a:b] for a, b in zip([0, *(end for _, end in cut)], [*(s for s, _ in cut), settled], strict=True)]
        assert left == "7".join(kept)
    assert settled == len(text) or cutter.formed is not None


@pytest.mark.parametrize(
    ("replacement", "complaint"),
    [
        ("", "must hold a letter or a digit"),
        ("#", "must hold a letter or a digit"),
        ("[...]", "must hold a letter or a digit"),
        ("\u200b", "must hold a letter or a digit"),
        ("b0mb", "matches rule 'r' itself"),
        ("[a bomb]", "matches rule 'r' itself"),
    ],
)
def test_a_replacement_that_interrupts_nothing_or_is_forbidden_itself_is_refused(
    replacement: str, complaint: str
) -> None:
    values: dict[str, Any] = {"replacement": replacement, "rules": [{"name": "r", "phrases": ["bomb"]}]}
    with pytest.raises(ConfigError) as caught:
        PatternsConfig.parse({"action": "modify", **values})
    assert complaint in str(caught.value)
    PatternsConfig.parse({"action": "block", **values})


class Counted(str):
    """A text that counts the characters copied out of it."""

    copied = 0

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        Counted.copied += len(part)
        return part


@pytest.mark.parametrize("size", [1, 7, 4000])
def test_held_text_is_copied_once_however_small_the_pieces_are(size: int) -> None:
    held, text = Held(), "".join(chr(97 + i % 26) for i in range(4000))
    Counted.copied = 0
    for start in range(0, len(text), size):
        held.put(Counted(text[start : start + size]))
        assert held.take(0) == ""
    taken = [held.take(to) for to in range(0, len(text) + 3, 3)]
    assert "".join(taken) == text
    assert Counted.copied == len(text)


def test_held_text_counts_a_replacement_as_all_that_it_stands_for() -> None:
    held = Held()
    held.put("so ")
    held.put("[removed]", 4)
    held.put(" now")
    assert [(held.take(to), held.settled) for to in (2, 3, 5, 12, 99)] == [
        ("so", 2),
        (" ", 3),
        ("[r", 7),
        ("emoved]", 7),
        (" now", 11),
    ]
