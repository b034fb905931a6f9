"""Runs of digits say what independent encoders wrote, at every offset, however they are cut into windows."""

import base64
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.encodings import ENCODINGS, WALL, Decoding, Encoding
from tests.examples import examples

BY_NAME = {encoding.name: encoding for encoding in ENCODINGS}
WRITE: dict[str, Callable[[bytes], str]] = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "base32": lambda data: base64.b32encode(data).decode(),
    "hex": lambda data: data.hex(),
    "binary": lambda data: "".join(f"{byte:08b}" for byte in data),
    "decimal": lambda data: " ".join(str(ord(c)) for c in data.decode()),
}


def said(encoding: Encoding, windows: list[str], phase: int = 0) -> str:
    decoding = Decoding(encoding, phase)
    return "".join(decoding.feed(window, last=at == len(windows) - 1) for at, window in enumerate(windows))


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(sorted(WRITE)), texts, st.lists(st.integers(0, 60), max_size=5))
def test_a_run_says_what_was_written_however_it_is_cut(name: str, text: str, cuts: list[int]) -> None:
    run = WRITE[name](text.encode())
    bounds = [0, *sorted(min(cut, len(run)) for cut in cuts), len(run)]
    windows = [run[a:b] for a, b in pairwise(bounds)]
    assert said(BY_NAME[name], windows) == text


@pytest.mark.parametrize("name", ["base64", "hex"])
@pytest.mark.parametrize("before", range(5))
def test_digits_before_a_run_hide_nothing_at_one_of_its_offsets(name: str, before: int) -> None:
    encoding = BY_NAME[name]
    run = encoding.digits[1] * before + WRITE[name](b"hello there, world")
    assert any("hello there, world" in said(encoding, [run], phase) for phase in range(encoding.phases))


@pytest.mark.parametrize(
    ("name", "run", "text"),
    [
        ("base64", "aGVs\r\nbG8=", "hello"),
        ("base64", "_-8", "\u16a0\u16a0"),
        ("base64", "aGVsbG8gd", "hello "),
        ("hex", "68 65 6C 6c 6F", "hello"),
        ("hex", "0x68, 0x65, 0x6c, 0x6c, 0x6f", "hello"),
        ("hex", "\\x68\\x65\\x6c\\x6c\\x6f", "hello"),
        ("hex", "70 60 50", "p`P"),
        ("hex", "d182d0be", "то"),
        ("hex", "00ff", "\x00" + WALL),
        ("binary", "0b01101000 0b01101001", "hi"),
        ("binary", "01101000_01101001", "hi"),
        ("decimal", "[104, 101, 108, 108, 111]", "hello"),
        ("decimal", "1090 999999999 55296 105", "т" + WALL + WALL + "i"),
        ("morse", ".... . .-.. .-.. --- / .-- --- .-. .-.. -..", "hello world"),
        ("morse", "···· ·", "he"),
        ("morse", "....  .", "h e"),
        ("morse", "......... .", WALL + "e"),
    ],
)
def test_worked_runs(name: str, run: str, text: str) -> None:
    assert said(BY_NAME[name], [run]) == text
    assert said(BY_NAME[name], list(run)) == text


@pytest.mark.parametrize("name", ["base64", "base32", "hex", "binary"])
def test_what_is_no_text_becomes_walls(name: str) -> None:
    assert said(BY_NAME[name], [WRITE[name](bytes([0xFF, 0x01, 0xC3, 0x41]))]) == WALL * 3 + "A"


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_run_has_enough_digits(name: str) -> None:
    encoding = BY_NAME[name]
    digit, between = encoding.digits[1], encoding.between[-1]
    assert encoding.counts(digit * encoding.least)
    assert not encoding.counts(digit * (encoding.least - 1) + between * 9)
    assert encoding.run.fullmatch(digit * encoding.least)
