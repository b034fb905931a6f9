"""Every phrase is found where it is, and the work of finding it, counted in steps of the automaton, is linear."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.guard import Exchange
from raysafe.guards.matcher import Hit, Matcher, Scan, Watch
from raysafe.guards.patterns import PatternGuard, PatternsConfig
from raysafe.guards.policy import default_policy
from raysafe.guards.unicode import END_OF_TEXT, IGNORED, SEPARATORS
from tests.examples import examples

RULES = [["a b", "ab* c"], ["(a|b) {0,2} c", "s a"], ["文字", "(a)? b c"], ["ai {1,1} b", "boss"]]
PIECES = ["a", "b", "c", " ", "s", "$", "@", "!", "|", ".", "\n", "i", "I", "1", "\u200b", "\u0301", "'", "文", "字"]
PIECES += ["\ufb01", "\u249c", "\u249d", "\u00df", "\u2009", " a ", " b ", " c "]
texts = st.lists(st.sampled_from(PIECES), max_size=16).map("".join)


def every_phrase(matcher: Matcher, text: str) -> list[Hit]:
    """Oracle: the automaton run over the whole text, each live position with its earliest start; nothing is let go."""
    automaton = matcher.automaton
    symbols = [(symbol, at) for at, character in enumerate(text) for symbol in matcher.table[ord(character)]]
    hits, live, after_separator, last = list[Hit](), dict[int, int](), True, -1
    for symbol, at in [*symbols, (END_OF_TEXT, len(text))]:
        if symbol == IGNORED:
            continue
        moved: dict[int, int] = {}
        for position, start in live.items():
            for p in automaton.follow[position]:
                if symbol in automaton.accepts[p]:
                    moved[p] = min(start, moved.get(p, start))
        for p in automaton.starts_anywhere | (automaton.starts if after_separator else set()):
            if symbol in automaton.accepts[p]:
                moved.setdefault(p, at)
        if ends := [p for p in moved if p in automaton.rule]:
            end = at if symbol in SEPARATORS and at != last else at + 1
            hits.append(Hit(min(moved[p] for p in ends), end, min(automaton.rule[p] for p in ends)))
        live, after_separator, last = moved, symbol in SEPARATORS, at
    return hits


@settings(max_examples=examples(300), deadline=None)
@given(texts, st.lists(st.integers(1, 5), max_size=8))
def test_any_chunking_finds_every_phrase_where_it_is_and_clears_none_of_it(text: str, sizes: list[int]) -> None:
    matcher = Matcher(RULES)
    expected = every_phrase(matcher, text)
    scan, found, rest = Scan(matcher), list[Hit](), text
    for size in [*sizes, len(text)]:
        found += scan.feed(rest[:size])
        rest = rest[size:]
        assert all(hit.start >= scan.safe for hit in expected if hit.end > scan.fed)
    assert [*found, *scan.finish()] == expected


@settings(max_examples=examples(200), deadline=None)
@given(texts, st.integers(0, 16))
def test_a_watch_stops_at_the_phrase_that_ends_first(text: str, cut: int) -> None:
    matcher = Matcher(RULES)
    first = next((hit.rule for hit in every_phrase(matcher, text)), None)
    assert matcher.first(text) == first
    watch = Watch(matcher)
    rule = watch.feed(text[:cut])
    rule = watch.feed(text[cut:]) if rule is None else rule
    assert (watch.finish() if rule is None else rule) == first


def scanned(matcher: Matcher, text: str) -> None:
    scan = Scan(matcher)
    scan.feed(text)
    scan.finish()


def scanned_by_character(matcher: Matcher, text: str) -> None:
    scan = Scan(matcher)
    for character in text:
        scan.feed(character)
    scan.finish()


DEFAULT = default_policy().guards[2]
assert isinstance(DEFAULT, PatternsConfig)
PACKAGED = DEFAULT.expanded()


@pytest.mark.parametrize("scan", [scanned, scanned_by_character])
@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (PACKAGED, lambda count: "$" * count + " make a pipe bomb "),
        (PACKAGED, lambda count: "!" * count + " a " + "$" * count + " cook meth "),
        (PACKAGED, lambda count: "$!|@+" * (count // 5) + " make a pipe bomb " * 9),
        (PACKAGED, lambda count: "make a pipe bomb " * (count // 16)),
        ([["make {0,8} s", "bad"]], lambda count: "make" + "$" * count),
        ([["make {0,8} bomb", "bad", "removed c"]], lambda count: "make" + "." * count + " bad bad c c" * 20),
        ([["a {0,8} b"]], lambda count: "a b " * (count // 4)),
    ],
    ids=[
        "symbols, then a phrase",
        "one phrase",
        "symbols, then many",
        "many",
        "many ends of one",
        "held",
        "overlapping",
    ],
)
def test_the_work_of_finding_where_phrases_begin_grows_linearly(
    rules: list[list[str]], text: Callable[[int], str], scan: Callable[[Matcher, str], None]
) -> None:
    def work(count: int) -> int:
        matcher = Matcher(rules)
        scan(matcher, text(count))
        return matcher.work

    once, twice, four_times = work(500), work(1000), work(2000)
    assert four_times - twice <= 2.1 * (twice - once) + 1000
    assert twice <= 2.1 * once


def test_a_guard_that_blocks_does_no_work_beyond_the_first_phrase() -> None:
    def work(text: str) -> int:
        guard = DEFAULT.build()
        assert isinstance(guard, PatternGuard)
        assert guard.check(Exchange("r", "k", "m", (), output=text), "output").action == "block"
        return guard.matcher.work

    assert work("make a pipe bomb " + "$" * 500 + " make a pipe bomb " * 50) == work("make a pipe bomb ")


@pytest.mark.parametrize(("text", "spans"), [("a \u249d, b", [(0, 3)]), ("\u249c\u249d", [(0, 2)]), ("a b,", [(0, 3)])])
def test_a_phrase_ends_after_a_character_that_folds_to_its_last_letter_and_a_boundary(
    text: str, spans: list[tuple[int, int]]
) -> None:
    """A parenthesised b is one character, which reads as (b)."""
    assert [(hit.start, hit.end) for hit in Scan(Matcher([["a b"]])).feed(text)] == spans
