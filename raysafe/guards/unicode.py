"""Folding text to the symbols that phrases are matched on, one character at a time, whatever the chunks.

Each character becomes one or more symbols: a lower-case Latin letter for anything that reads as one (compatibility
forms, homoglyphs, letters with strokes or marks, Braille), a digit, another script's letter, a separator, or IGNORED
for what can't be seen.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re
import unicodedata

IGNORED = "\x01"
"""Combining marks, zero-width and format characters, apostrophes: they never interrupt a match."""
SPACE, POINT = " ", "."
"""Separators: the white space that people type; thin, wide and control spaces, which hide inside a word as well as any
punctuation does, and every other character that is no letter and no digit."""
CAPITAL_I = "I"
"""Upper-case I, kept apart because it reads as i and as l."""
SHARP_S = "\u00df"
"""Kept apart because it is ss and looks like a b."""
END_OF_TEXT = "\x03"
CIRCLE = "\u25cb"
"""Bullets, rings and degree signs: separators that look like an o."""
LEET_SYMBOLS = f"@$!|+€{CIRCLE}"
"""Punctuation that also stands for a letter."""
SEPARATORS = frozenset(SPACE + POINT + LEET_SYMBOLS + END_OF_TEXT)

READS_AS = {
    "a": "4@",
    "b": f"86{SHARP_S}бþ",
    "e": "3€",
    "g": "69",
    "i": "1!|I",
    "l": "1|I",
    "o": f"0{CIRCLE}ဝഠסه",
    "s": "5$",
    "t": "7+",
    "z": "2",
}
"""Other symbols that a letter of a phrase accepts: leetspeak, the capital I, and letters that look alike but that
their own script cannot do without."""

# Letters of other scripts that look like Latin ones, after Unicode's confusables (UTS 39): Cyrillic, Greek, Armenian,
# Cherokee, Lisu, Coptic, Canadian syllabics, Old Italic, IPA letters without a Latin name, and currency signs.
_LOOK_ALIKES = {
    "a": "аαɑᎪꓮⲁӑᗩ𐌀₳",
    "b": "ЬьвβВᏴᏼꓐⲃƅϐᗷ𐌁฿₿ɮ",
    "c": "сϲⅽᏟꓚⲥᑕ₵",
    "d": "ԁժᎠꓓɖᗪ",
    "e": "еєεҽᎬꓰⲉѐёэᗴ𐌄",
    "f": "ғϝꓝքᖴ₣",
    "g": "ɡցԍᏀꓖ₲",
    "h": "һнհНᎻꓧⲏᕼ",
    "i": "іιıӏІΙᎥɩїⲓ𐌉",
    "j": "јϳᎫꓙյᒍ",
    "k": "кκᏦꓗⲕқӄ𐌊₭",
    "l": "ⳑᏞꓡℓᒪ",
    "m": "мМΜᎷꓟⲙᗰ𐌌₥ʍ",
    "n": "пηռոΝꓠⲛᑎ𐌍₦",
    "o": "оοօσՕჿꓳⲟ〇𐌏𐐬𐬬",
    "p": "рρᏢꓑⲣᑭ₱",
    "q": "ԛզգᑫ",
    "r": "гᎡᏒꓣⲅᴦᖇ",
    "s": "ѕᏚꓢՏᔕ₴",
    "t": "тτТᎢꓔⲧ𐌕₮",
    "u": "υսцմՍꓴᑌ",
    "v": "ѵνᏙꓦᐯ",
    "w": "ԝѡաᎳᏔꓪωᗯ₩",
    "x": "хχΧꓫⲭ",
    "y": "уγүᎩꓬⲩуў",
    "z": "ʐᏃꓜΖ",
}
_LATIN = {
    form: letter for letter, alike in _LOOK_ALIKES.items() for one in alike for form in {one, one.lower(), one.upper()}
}
_LATIN.update(zip("⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵", "abcdefghijklmnopqrstuvwxyz", strict=True))
_LATIN_NAME = re.compile(
    r"(?:NEGATIVE (?:CIRCLED|SQUARED) |CROSSED NEGATIVE SQUARED |REGIONAL INDICATOR SYMBOL LETTER |PARENTHESIZED )?"
    r"(?:(?:MODIFIER|LATIN) )?(?:(?:SMALL|CAPITAL|LETTER) )*"
    r"(?:SCRIPT |TURNED |REVERSED |OPEN |CLOSED |DOTLESS |BARRED |INSULAR |SIDEWAYS |STRETCHED |HALF )*"
    r"([A-Z])(?: WITH .*| BAR)?"
)
_CIRCLES = frozenset(CIRCLE + "●◯◦∘◉◎⊙⚪⚫⭕🔴🔵🟠🟡🟢🟣🟤°˚")
# Modifier letters are marks, but for the signs of these scripts that are letters: long vowels of kana, repetitions.
_LETTERS_OF_THEIR_OWN = ("KATAKANA", "HIRAGANA", "HALFWIDTH", "IDEOGRAPHIC", "VERTICAL", "THAI", "LAO", "KHMER")
_PLAIN_SPACES = frozenset(" \t\n\r\u00a0")
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5")
_APOSTROPHES = frozenset("'\u2019\u02bc\u2018\u00b4`")
_TABLE_LIMIT = 20_000


def fold(character: str) -> str:
    """The symbols of one character; never empty.

    >>> fold("Ｂ"), fold("ο"), fold("ø"), fold("\\u200b") == IGNORED
    ('b', 'o', 'o', True)
    """
    if character.isspace():
        return SPACE if character in _PLAIN_SPACES else POINT
    if character in _APOSTROPHES:
        return IGNORED
    if character in _CIRCLES:
        return CIRCLE
    # what a look-alike decomposes to may look like another letter: a lunate sigma is a c, and decomposes to a sigma
    parts = character if character in _LATIN else unicodedata.normalize("NFKD", character)
    symbols = "".join(map(_symbol, parts))
    seen = symbols.replace(IGNORED, "")
    return seen or IGNORED


def _symbol(part: str) -> str:
    """The symbol(s) of one character that looks like a Latin letter or has no compatibility decomposition."""
    if part.isascii():
        if part.isalnum():
            return CAPITAL_I if part == "I" else part.lower()
        if part in LEET_SYMBOLS:
            return part
    if part.isspace():
        # an accent that stands alone decomposes to a space and a mark: it separates as punctuation does
        return POINT
    category = unicodedata.category(part)
    if part in _APOSTROPHES or part in _INVISIBLE or category in ("Mn", "Me", "Cf", "Cc"):
        return IGNORED
    if part in _LATIN:
        return _LATIN[part]
    name = unicodedata.name(part, "")
    if latin := _LATIN_NAME.fullmatch(name):
        return latin[1].lower()
    if part == "€":
        return part
    if category[0] == "N":
        digit = unicodedata.digit(part, None)
        return part if digit is None else str(digit)
    if category == "Lm" and not name.startswith(_LETTERS_OF_THEIR_OWN):
        return IGNORED
    if part in "\u00df\u1e9e":
        return SHARP_S
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
