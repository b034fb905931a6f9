"""Escapes are read as what they stand for, whole and in pieces, and every character knows where it comes from."""

import html
import json
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.escapes import first_escape, unescape
from raysafe.guards.pieces import Piece
from tests.examples import examples


def read(text: str) -> str:
    piece, rest = unescape(Piece.plain(text, 0), last=True)
    assert rest.text == ""
    return piece.text


texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="%&<>\"'`\\=-U+"), max_size=30)


@settings(max_examples=examples(100), deadline=None)
@given(texts)
def test_independent_encoders_are_read_back(text: str) -> None:
    plain = "".join(c for c in text if not 0xE0000 <= ord(c) < 0xE0200)
    assert read(quote(plain)) == plain
    assert read("".join(f"&#{ord(c)};" for c in plain)) == html.unescape("".join(f"&#{ord(c)};" for c in plain))
    assert read(json.dumps(plain)[1:-1]) == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b%6fmb", "bomb"),
        ("%D1%82", "т"),
        ("%e9 %zz %", "%e9 %zz %"),
        ("a=3D b", "a= b"),
        ("\\x62\\u006f\\u{6d}\\U00000062\\142", "bombb"),
        ("\\ud835\\udc26", "\U0001d426"),
        ("\\u{110000}", "\ufffd"),
        ("U+0062", "b"),
        ("&lt;&#98;&#x62;&nope;", "<bb&nope;"),
        ("bo<b>m</b>b <!-- c -->", "bo.m.b ."),
        ("a < b > c", "a < b > c"),
        ('"bo" + "mb"', '"bo.mb"'),
        ("bo-\r\nmb", "bo.mb"),
        ("bo\\\nmb", "bo.mb"),
        ("\U000e0062\U000e006f", "bo"),
        ("\U000e0152", "b"),
        ('don\'t - 5% & "so" x = y', 'don\'t - 5% & "so" x = y'),
    ],
)
def test_worked_escapes(text: str, said: str) -> None:
    assert read(text) == said


PIECES = [
    "%",
    "6",
    "f",
    "%6f",
    "%d1",
    "%82",
    "&",
    "#",
    "9",
    "8",
    ";",
    "&#98;",
    "&lt",
    "x",
    "\\",
    "u",
    "00",
    "62",
    "{",
    "}",
    "U",
]
PIECES += ["+", '"', "'", " ", "-", "\n", "\r", "<", "b", ">", "/", "!", "=", "\\ud835", "\\udc26", "\U000e0062", "т"]


@settings(max_examples=examples(500), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join), st.lists(st.integers(1, 9), max_size=8))
def test_a_text_in_chunks_is_read_as_the_whole_and_told_at_the_same_time(text: str, sizes: list[int]) -> None:
    whole, _ = unescape(Piece.plain(text, 0), last=True)
    said, starts, ends, whens = "", list[int](), list[int](), list[int]()
    pending, at = Piece.plain("", 0), 0
    for size in [*sizes, *([1] * len(text))]:
        chunk = Piece.plain(text[at : at + size], at)
        at += len(chunk.text)
        part, pending = unescape(pending + chunk, last=False)
        said, starts, ends = said + part.text, [*starts, *part.starts], [*ends, *part.ends]
        whens = [*whens, *part.whens]
        assert all(when <= at for when in part.whens)
    final, _ = unescape(pending, last=True)
    assert said + final.text == whole.text
    assert [*starts, *final.starts] == list(whole.starts)
    assert [*ends, *final.ends] == list(whole.ends)
    assert [*whens, *final.whens] == list(whole.whens)
    assert list(whole.starts) == sorted(whole.starts)
    assert list(whole.whens) == sorted(whole.whens)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_nothing_before_the_first_escape_changes(text: str) -> None:
    at = first_escape(text)
    piece, pending = unescape(Piece.plain(text, 0), last=False)
    if at is None:
        assert (piece.text, pending.text) == (text, "")
    else:
        assert piece.text[:at] == text[:at]
        assert (piece.text + pending.text)[: at + 1] != text or pending.text


@pytest.mark.parametrize("text", ["", "ordinary words, with 50 things", "a-b c_d (e) f; g: h?", "it's fine", "1 < 2"])
def test_ordinary_text_holds_no_escape(text: str) -> None:
    assert first_escape(text) is None


def test_an_escape_is_one_character_that_stands_for_all_of_it() -> None:
    piece, _ = unescape(Piece.plain("a%6fb", 10), last=True)
    assert (list(piece.starts), list(piece.ends)) == ([10, 11, 14], [11, 14, 15])
    assert unquote("a%6fb") == piece.text
