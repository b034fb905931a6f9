"""Encodings that turn a text into a run of digits: what such a run looks like, and what it says.

base64 (standard, url-safe, over several lines), base32, hexadecimal (plain, in groups, 0x.., \\x..), binary digits,
decimal character codes, Morse. A run says something at every offset of its digits (`phases`), so that letters before
it hide nothing. Decoding is linear in the run.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

WALL = "\u16a0"
"""Stands for what is no text: a letter of no phrase, so that no phrase reaches over it."""
_NO_TEXT = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\udc80-\udcff]")
_MORSE = {
    code: letter
    for letter, code in zip(
        "abcdefghijklmnopqrstuvwxyz0123456789",
        re.findall(
            "[.-]+",
            ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- "
            "--.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.",
        ),
        strict=True,
    )
}

Decode = Callable[[str, bool], tuple[bytes, str]]
"""(a part of a run, whether it is the last) to (what it says in UTF-8, its end that says nothing on its own yet)."""


@dataclass(frozen=True)
class Encoding:
    """Runs of `digits`, with any of `between` among them, of at least `least` digits."""

    name: str
    digits: str
    between: str
    least: int
    phases: int
    decode: Decode
    characters: str = field(init=False)
    run: re.Pattern[str] = field(init=False)
    """A stretch that may be a run: as many characters as its fewest digits, from a digit on."""

    without_digits: dict[int, None] = field(init=False)
    _classes: bytes = field(init=False)
    """A table for `bytes.translate`: 1 for what may be in a run, 0 for the rest."""

    def __post_init__(self) -> None:
        digits, every = re.escape(self.digits), re.escape(self.digits + self.between)
        object.__setattr__(self, "characters", self.digits + self.between)
        object.__setattr__(self, "without_digits", dict.fromkeys(map(ord, self.digits)))
        object.__setattr__(self, "run", re.compile(f"[{digits}][{every}]{{{self.least - 1},}}"))
        object.__setattr__(self, "_classes", bytes(chr(byte) in self.characters for byte in range(128)) + bytes(128))

    def may_run(self, ascii_text: bytes) -> bool:
        """Whether as many characters as a run has stand together: `run` finds nothing where they don't.

        A search for equal bytes skips most of a text, where `run` looks at every character.
        """
        return b"\x01" * self.least in ascii_text.translate(self._classes)

    def counts(self, run: str) -> bool:
        """Whether a stretch has the digits of a run."""
        return len(run) >= self.least and len(run) - len(run.translate(self.without_digits)) >= self.least


class Decoding:
    """One run on its way, from its digit number `phase` on; `feed` gives what each part says."""

    def __init__(self, encoding: Encoding, phase: int) -> None:
        self._encoding, self._skip = encoding, phase
        self._rest, self._bytes = "", b""

    def feed(self, run: str, last: bool) -> str:
        """The text that a part of the run says: one WALL for every byte or number that is no text."""
        for at, character in enumerate(run if self._skip else ""):
            self._skip -= character in self._encoding.digits
            if not self._skip:
                run = run[at + 1 :]
                break
        else:
            run = "" if self._skip else run
        said, self._rest = self._encoding.decode(self._rest + run, last)
        said = self._bytes + said
        text, used = codecs.utf_8_decode(said, "surrogateescape", last)
        self._bytes = said[used:]
        return _NO_TEXT.sub(WALL, text)


def _base64(run: str, last: bool) -> tuple[bytes, str]:
    digits = run.translate(_PLAIN_BASE64)
    whole = len(digits) // 4 * 4
    rest = digits[whole:]
    if last:
        # a digit too many says nothing
        whole = len(digits) - (len(rest) == 1)
        return binascii.a2b_base64(digits[:whole] + "=" * (-whole % 4)), ""
    return binascii.a2b_base64(digits[:whole]), rest


def _bits(run: str, last: bool, bits: int, group: int, drop: re.Pattern[str], prefixed: bool) -> tuple[bytes, str]:
    """Digits of `bits` bits, `group` of which make whole bytes. int() of a power-of-two base is linear."""
    # a 0 may be that of 0x or 0b: it isn't told before the next character
    kept = len(run) - 1 if prefixed and not last and run.endswith("0") else len(run)
    digits = drop.sub("", run[:kept])
    whole = len(digits) // group * group
    taken = len(digits) if last else whole
    size = taken * bits // 8
    if size == 0:
        return b"", "" if last else digits[whole:] + run[kept:]
    number = int(digits[:taken].translate(_BASE32) if bits == 5 else digits[:taken], 2**bits)
    return (number >> (taken * bits - size * 8)).to_bytes(size, "big"), "" if last else digits[whole:] + run[kept:]


def _decimal(run: str, last: bool) -> tuple[bytes, str]:
    """Numbers below 0x110000; a longer one is no text."""
    cut = len(run) if last else len(run.rstrip("0123456789"))
    rest = run[cut:]
    if len(rest) > 8:
        cut, rest = len(run), ""
    return "".join(map(_character, re.findall("[0-9]+", run[:cut]))).encode("utf-8", "surrogatepass"), rest


def _character(number: str) -> str:
    code = int(number) if len(number) < 8 else 0x110000
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else WALL


def _morse(run: str, last: bool) -> tuple[bytes, str]:
    marks = run.translate(_MARKS)
    cut = len(marks) if last else len(marks.rstrip(".-"))
    if not last and marks.endswith(" ") and not marks.endswith("  "):
        # one space ends a letter, two a word
        cut -= 1
    rest = marks[cut:]
    if len(rest) > 8:
        cut, rest = len(marks), ""
    words = re.findall(r"[.-]+|  |/", marks[:cut])
    return "".join(" " if word in ("  ", "/") else _MORSE.get(word, WALL) for word in words).encode(), rest


_PLAIN_BASE64 = {ord("-"): "+", ord("_"): "/", **dict.fromkeys(map(ord, "=\r\n"))}
_BASE32 = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghijklmnopqrstuv")
_MARKS = {
    **dict.fromkeys(map(ord, "·•∙"), "."),
    **dict.fromkeys(map(ord, "\u2013—\u2212_"), "-"),
    ord("|"): "/",
    ord("\n"): "/",
}
_UPPER, _LOWER, _NUMBERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
_LISTED = " \t\r\n,;:"

ENCODINGS = (
    Encoding("base64", _UPPER + _LOWER + _NUMBERS + "+/-_", "=\r\n", 16, 4, _base64),
    Encoding(
        "base32",
        _UPPER + "234567",
        "=\r\n",
        16,
        1,
        partial(_bits, bits=5, group=8, drop=re.compile("[=\r\n]"), prefixed=False),
    ),
    Encoding(
        "hex",
        _NUMBERS + "abcdefABCDEF",
        _LISTED + "-\\xX",
        8,
        2,
        partial(_bits, bits=4, group=2, drop=re.compile("0[xX]|[^0-9a-fA-F]"), prefixed=True),
    ),
    Encoding(
        "binary",
        "01",
        _LISTED + "-_bB",
        32,
        1,
        partial(_bits, bits=1, group=8, drop=re.compile("0[bB]|[^01]"), prefixed=True),
    ),
    Encoding("decimal", _NUMBERS, _LISTED + "-[]()", 8, 1, _decimal),
    Encoding("morse", ".-·•∙\u2013—\u2212_", " /|\n", 8, 1, _morse),
)
"""In the order in which they are looked for."""


@lru_cache(maxsize=16)
def stretches(text: str) -> frozenset[str]:
    """Names of the encodings whose `run` is found in the text. Several guards look at one text: the last are kept."""
    # characters beyond ASCII become a question mark, which is in no run; of all digits, only Morse has such
    plain, ascii_only = text.encode("ascii", "replace"), text.isascii()
    return frozenset(
        encoding.name
        for encoding in ENCODINGS
        if (encoding.may_run(plain) or not (ascii_only or encoding.characters.isascii())) and encoding.run.search(text)
    )
