"""Folding text to the symbols that phrases are matched on, one character at a time, whatever the chunks.

Each character becomes one or more symbols: a lower-case Latin letter for anything that reads as one (compatibility
forms, homoglyphs, letters with strokes or marks), a digit, another script's letter, a separator, or IGNORED for what
can't be seen.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re
import unicodedata

IGNORED = "\x01"
"""Combining marks, zero-width and format characters, apostrophes: they never interrupt a match."""
SPACE, POINT = " ", "."
"""Separators: white space and line breaks; any other character that is no letter and no digit."""
CAPITAL_I = "I"
"""Upper-case I, kept apart because it reads as i and as l."""
END_OF_TEXT = "\x03"
LEET_SYMBOLS = "@$!|+€"
"""Punctuation that also stands for a letter."""
SEPARATORS = frozenset(SPACE + POINT + LEET_SYMBOLS + END_OF_TEXT)

READS_AS = {
    "a": "4@",
    "b": "8",
    "e": "3€",
    "g": "69",
    "i": "1!|I",
    "l": "1|I",
    "o": "0",
    "s": "5$",
    "t": "7+",
    "z": "2",
}
"""Other symbols that a letter of a phrase accepts: leetspeak, and the capital I."""

# Letters of other scripts that look like Latin ones, after Unicode's confusables (UTS 39): Cyrillic, Greek, Armenian,
# Cherokee, Lisu, Coptic, and IPA letters without a Latin name.
_LOOK_ALIKES = {
    "a": "аαɑᎪꓮⲁӑ",
    "b": "ЬьвβВᏴᏼꓐⲃƅϐ",
    "c": "сϲⅽᏟꓚⲥ",
    "d": "ԁժᎠꓓɖ",
    "e": "еєεҽᎬꓰⲉѐёэ",
    "f": "ғϝꓝք",
    "g": "ɡցԍᏀꓖ",
    "h": "һнհНᎻꓧⲏ",
    "i": "іιıӏІΙᎥⅼɩїⲓ",
    "j": "јϳᎫꓙյ",
    "k": "кκᏦꓗⲕқӄ",
    "l": "ⳑᏞꓡℓ",
    "m": "мМΜᎷꓟⲙ",
    "n": "пηռոΝꓠⲛ",
    "o": "оοօσՕჿꓳⲟ〇",
    "p": "рρᏢꓑⲣ",
    "q": "ԛզգ",
    "r": "гᎡᏒꓣⲅᴦ",
    "s": "ѕᏚꓢՏ",
    "t": "тτТᎢꓔⲧ",
    "u": "υսцմՍꓴ",
    "v": "ѵνᏙꓦ",
    "w": "ԝѡաᎳᏔꓪω",
    "x": "хχΧꓫⲭ",
    "y": "уγүᎩꓬⲩуў",
    "z": "ʐᏃꓜΖ",
}
_LATIN = {
    form: letter for letter, alike in _LOOK_ALIKES.items() for one in alike for form in {one, one.lower(), one.upper()}
}
_LATIN_NAME = re.compile(
    r"(?:NEGATIVE (?:CIRCLED|SQUARED) |CROSSED NEGATIVE SQUARED |REGIONAL INDICATOR SYMBOL LETTER |PARENTHESIZED )?"
    r"(?:(?:MODIFIER|LATIN) )?(?:(?:SMALL|CAPITAL|LETTER) )*"
    r"(?:SCRIPT |TURNED |REVERSED |OPEN |CLOSED |DOTLESS |BARRED |INSULAR |SIDEWAYS |STRETCHED |HALF )*"
    r"([A-Z])(?: WITH .*| BAR)?"
)
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5")
_APOSTROPHES = frozenset("'\u2019\u02bc\u2018\u00b4`")
_TABLE_LIMIT = 20_000


def fold(character: str) -> str:
    """The symbols of one character; never empty.

    >>> fold("Ｂ"), fold("ο"), fold("ø"), fold("\\u200b") == IGNORED
    ('b', 'o', 'o', True)
    """
    symbols = "".join(_symbol(part) for part in unicodedata.normalize("NFKD", character))
    seen = symbols.replace(IGNORED, "")
    return seen or IGNORED


def _symbol(part: str) -> str:
    """The symbol(s) of one character that has no compatibility decomposition."""
    if part.isascii():
        if part.isalnum():
            return CAPITAL_I if part == "I" else part.lower()
        if part in LEET_SYMBOLS:
            return part
    category = unicodedata.category(part)
    if part in _APOSTROPHES or part in _INVISIBLE:
        return IGNORED
    if part.isspace():
        return SPACE
    if category in ("Mn", "Me", "Cf", "Cc"):
        return IGNORED
    if part in _LATIN:
        return _LATIN[part]
    if latin := _LATIN_NAME.fullmatch(unicodedata.name(part, "")):
        return latin[1].lower()
    if part == "€":
        return part
    if category[0] == "N":
        digit = unicodedata.digit(part, None)
        return part if digit is None else str(digit)
    if category[0] == "L" or category == "Mc":
        lower = part.casefold()
        return lower if len(lower) == 1 and lower not in _LATIN else "".join(_LATIN.get(c, c) for c in lower)
    return POINT


class FoldTable(dict[int, str]):
    """A table for `str.translate`, filled as characters turn up and never larger than 20,000 of them.

    Letters outside `alphabet` (the symbols that some phrase uses) become `other`, which keeps the automaton small.
    """

    def __init__(self, alphabet: frozenset[str], other: str) -> None:
        super().__init__()
        self._known = alphabet | SEPARATORS | {IGNORED}
        self._other = other

    def __missing__(self, codepoint: int) -> str:
        symbols = "".join(s if s in self._known else self._other for s in fold(chr(codepoint)))
        if len(self) < _TABLE_LIMIT:
            self[codepoint] = symbols
        return symbols
