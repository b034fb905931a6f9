"""What a text reads as once codes and disguises are undone: the texts that a scoring guard judges besides the text.

What a run of a code says is kept where it is text at all, and any other attempt where it reads more like text than what
it was made from (letters.py), so that plain prose has no other reading. Each attempt is linear in the text, and codes
are undone three deep at most.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

import numpy as np

from raysafe.guards.encodings import ENCODINGS, WALL, Decoding, stretches
from raysafe.guards.features import latin
from raysafe.guards.letters import Letters, packaged

DEPTH = 3
FEWEST = 12
"""Characters that a reading must have, to say anything."""
GAIN_BITS = 0.7
"""How much less surprising a character, on average, a reading must be than the text."""
ODD_BITS = 4.2
"""Text that surprises less than this is read as it stands: it is neither rot13 nor reversed."""
_LEET = str.maketrans("0345789@$+€!|", "oeastbgaste11")
_ONES = re.compile(r"[A-Za-z]*1[A-Za-z1]*")
# patterns that begin with a set of characters: the search skips all others
_LEET_WORD = re.compile(r"[0-9@$!|+€](?:(?<=[A-Za-z][0-9@$!|+€])|(?=[A-Za-z]))")
_SPELLED = re.compile(r"(?:(?<=\s)|(?<=^))(?:[^\W_][ .\-_*]){3,}[^\W_](?=\s|$|[.,!?])")
_MAY_BE_SPELLED = re.compile(r"[ .\-_*](?:[^\W_][ .\-_*]){2}")
_GAP_IN_SPELLED = re.compile(r"(?<=[^\W_])[ .\-_*](?=[^\W_])")
_WIDE_GAP = re.compile(r"\s{2,}")
_ALL_SINGLE = re.compile(r"\S(?: \S)*")
_SPLIT = re.compile(r"[.\-_*](?<=[A-Za-z][.\-_*])(?=[A-Za-z])")


@lru_cache(maxsize=8)
def readings(text: str) -> tuple[str, ...]:
    """The text, then what it reads as; nothing twice. Several guards ask for one text, so the last ones are kept."""
    letters = packaged()
    found, level = {text: None}, [text]
    for _ in range(DEPTH):
        level = [one for source in level for one in _undone(source, letters) if one not in found]
        found |= dict.fromkeys(level)
        if not level:
            break
    return tuple(found)


def _undone(text: str, letters: Letters) -> list[str]:
    found = _decoded(text)
    raw, text = text, latin(text)
    before = _bits(text, letters)
    attempts = []
    if _LEET_WORD.search(text):
        attempts.append(_unleeted(text, letters))
    if _MAY_BE_SPELLED.search(text) and _SPELLED.search(text):
        # spelled out: kept as it is, for it may need more undoing before it reads like text
        found.append(_joined(text))
    if _SPLIT.search(text):
        attempts.append(_SPLIT.sub("", text))
    if before > ODD_BITS:
        # letters of other scripts were not turned by rot13: they are read as Latin ones afterwards
        attempts += [latin(codecs.encode(raw, "rot13")), text[::-1]]
    return found + [one for one in attempts if len(one) >= FEWEST and _bits(one, letters) < before - _needed(one, text)]


def _unleeted(text: str, letters: Letters) -> str:
    """Digits and signs as the letters that they stand for; a 1 is an i or an l, whichever makes a known word."""
    plain = text.translate(_LEET)
    choices = {}
    for word in dict.fromkeys(_ONES.findall(plain)):
        first = word.find("1") + 1
        choices[word] = [
            word.replace("1", "i"),
            word.replace("1", "l"),
            word[:first].replace("1", "i") + word[first:].replace("1", "l"),
            word[:first].replace("1", "l") + word[first:].replace("1", "i"),
        ]
    unknown = iter(letters.unknown(" ".join(one for four in choices.values() for one in four))[1].tolist())
    chosen = {}
    for word, four in choices.items():
        known = [one for one in four if not next(unknown)]
        chosen[word] = (known or four)[0]
    return _ONES.sub(lambda word: chosen[word[0]], plain)


def _needed(attempt: str, text: str) -> float:
    """Gain asked for: less where only the letters of some words changed."""
    return GAIN_BITS if len(attempt) == len(text) and not _LEET_WORD.search(text) else 0.1


def _decoded(text: str) -> list[str]:
    """What the runs of digits in a text say, each with all phases, all runs of a code as one text."""
    found, inside = [], stretches(text)
    for encoding in ENCODINGS if inside else ():
        if encoding.name not in inside:
            continue
        runs = [match[0] for match in encoding.run.finditer(text) if encoding.counts(match[0])]
        for phase in range(encoding.phases) if runs else ():
            said = " ".join(Decoding(encoding, phase).feed(run, True) for run in runs)
            if len(said) >= FEWEST and said.count(WALL) * 8 < len(said):
                found.append(said.replace(WALL, " "))
    return found


def _joined(text: str) -> str:
    """Words spelled letter by letter put together; where wider gaps part words, a single separator joins."""
    parts = _WIDE_GAP.split(text)
    if len(parts) > 1:
        spelled = ["".join(part.split()) if _ALL_SINGLE.fullmatch(part) else part for part in parts]
        return " ".join(spelled)
    return _SPELLED.sub(lambda spelled: _GAP_IN_SPELLED.sub("", spelled[0]), text)


def _bits(text: str, letters: Letters) -> float:
    bits_N = letters.bits(text)
    return float(np.mean(bits_N)) if bits_N.size else np.inf
