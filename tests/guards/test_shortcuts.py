"""What guards skip, they skip only where nothing is: each short way finds what the long way finds."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysafe.guards.encodings import ENCODINGS, stretches
from raysafe.guards.features import _IN_WORD, _POWERS, LONGEST_WORD, folded, words
from raysafe.guards.finding import Shape, digit_runs
from raysafe.guards.injection import _NEEDS, STRUCTURES
from raysafe.guards.injection_phrases import PHRASES
from raysafe.guards.matcher import Matcher, Watch
from raysafe.guards.pii_shapes import SHAPES
from raysafe.guards.readings import _LEET_WORD, _MAY_BE_SPELLED, _SPELLED, _SPLIT
from raysafe.guards.signs import SignFinder

DIGITED = [shape for some in SHAPES.values() for shape in some if shape.lead is not None]
FINDER = SignFinder({kind: phrases for kind, (_, phrases) in PHRASES.items()})
_PHRASES = " ".join(phrase for _, some in PHRASES.values() for phrase in some)
VOCABULARY = sorted(set(re.findall("[a-z0-9]+", _PHRASES)))
CODES = "".join(encoding.characters for encoding in ENCODINGS)
LONG_LEET = re.compile(r"[A-Za-z][0-9@$!|+€]|[0-9@$!|+€][A-Za-z]")
LONG_SPLIT = re.compile(r"(?<=[A-Za-z])[.\-_*](?=[A-Za-z])")
NUMBERS = ["4111 1111 1111 1111", "DE89370400440532013000", "127.0.0.1", "8.8.8.8", "078-05-1120", "+44 20 7946 0958"]
NUMBERS += ["(212) 555-0123", "12 Main Street", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "0x" + "a1" * 20, "٣٤"]
NUMBERS += [" ", " ", "a", "+", "(", "9", "x" * 50]


@given(st.text(st.sampled_from(CODES + "zé🙂\ud800"), max_size=80))
@example("é" * 3 + "·" * 8)
@example("A" * 16)
@example("a" * 15)
def test_the_encodings_that_stand_in_a_text_are_those_whose_pattern_is_found(text):
    assert stretches(text) == {encoding.name for encoding in ENCODINGS if encoding.run.search(text)}


@given(st.text(st.sampled_from("aZ 0@€.-_*\né_"), max_size=30))
def test_leet_and_split_words_are_found_where_patterns_with_their_letters_first_find_them(text):
    assert bool(_LEET_WORD.search(text)) == bool(LONG_LEET.search(text))
    assert _SPLIT.sub("", text) == LONG_SPLIT.sub("", text)


@given(st.text(st.sampled_from("aé0 .-_*\n!,"), max_size=30))
@example("a b c d")
def test_no_spelled_word_is_skipped(text):
    assert _MAY_BE_SPELLED.search(text) or not _SPELLED.search(text)


@given(st.lists(st.sampled_from(NUMBERS), max_size=12).map("".join), st.integers(0, 20), st.integers(0, 200))
@pytest.mark.parametrize("shape", DIGITED, ids=lambda shape: shape.name)
def test_what_is_looked_for_at_digits_is_what_a_search_of_the_whole_text_finds(shape: Shape, text, start, limit):
    text = "word " * 60 + text
    start, limit = start + 290, limit + 290
    expected = list(shape.found(text, start, limit))
    assert list(shape.found_at(text, digit_runs(text), start, limit)) == expected


@given(st.lists(st.sampled_from([*VOCABULARY, "tree", "it's", "café"]), max_size=12), st.booleans())
def test_phrases_tried_at_their_beginnings_are_those_found_anywhere(some, padded):
    symbols = FINDER._read(" tree ".join(some) if padded else " ".join(some) + " tree" * 40)
    assert FINDER._found(symbols) == FINDER._found_slowly(symbols)


@pytest.mark.parametrize("kind", PHRASES)
def test_each_phrase_is_found_at_its_beginning(kind):
    for phrase in PHRASES[kind][1]:
        said = re.sub(r"\{\d+,\d+\}|\*", " ", phrase)
        while "(" in said:
            said = re.sub(r"\(([^()|]*)(?:\|[^()]*)?\)\??", r" \1 ", said)
        symbols = FINDER._read("tree " * 40 + said + " tree" * 40)
        assert kind in FINDER._found(symbols)


def test_phrases_with_an_open_beginning_are_found():
    finder = SignFinder({"gap": ("{0,2} end",), "choice": ("(red)? (green|blue)",), "none": ("(red)?",)})
    for text in ("tree " * 20 + "end", "tree " * 20 + "blue", "tree " * 20 + "red green", "tree " * 20):
        symbols = finder._read(text)
        assert finder._found(symbols) == finder._found_slowly(symbols)


@given(st.text(st.sampled_from("<>|[]/:#-=~_ \nsystemINSTbegindataDANsK"), max_size=60))
@example("<|im_start|>")
@example("system:")
@example("### instruction")
@example("-=- begin prompt")
@example("DAN:")
def test_no_structure_is_skipped(text):
    for kind, (_, pattern) in STRUCTURES.items():
        assert _NEEDS[kind](text) or not pattern.search(text)


@given(st.text(st.sampled_from("ab é0.\n" + "x" * 3), max_size=90))
@example("x" * 30 + " y")
@example("..")
def test_words_are_hashed_as_the_sum_over_their_letters_says(text):
    bytes_N = folded(text)
    inside = [False, *_IN_WORD[bytes_N].tolist(), False]
    begins = [at for at, (before, now) in enumerate(pairwise(inside)) if now and not before]
    ends = [at for at, (before, now) in enumerate(pairwise(inside)) if before and not now]
    expected = [
        sum(int(bytes_N[at]) * int(_POWERS[min(at - begin, LONGEST_WORD)]) for at in range(begin, end)) % 2**32
        for begin, end in zip(begins, ends, strict=True)
    ]
    starts_W, words_W = words(bytes_N)
    assert starts_W.tolist() == begins
    assert np.array_equal(words_W, np.array(expected, dtype=np.uint32))


@given(st.text(st.sampled_from("bomgek .,\n0'@!"), max_size=60))
@example("a bomb")
@example("make a  bomb now ")
def test_words_at_once_lead_where_their_symbols_one_by_one_lead(text):
    matcher = Matcher([["bomb"], ["make {0,2} bomb*"]], frozenset({"reversed"}))
    watch, state, rule, quiet = Watch(matcher), matcher.root(), None, True
    for symbol in text.translate(matcher.table):
        state = matcher.step(state, symbol) if symbol != "\x01" else state
        quiet = state.quiet
        if state.rule is not None and not quiet:
            rule = state.rule
            break
    assert watch.feed(text) == rule
    assert rule is not None or watch._state is state
