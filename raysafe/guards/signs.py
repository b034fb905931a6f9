"""Looking for phrases word by word: coarser than the pattern guard's matcher, and an order of magnitude cheaper.

Each word of a text becomes one symbol, that of the longest known word or beginning (`word*`) that it matches, and
phrases become regular expressions over symbols. Phrases are written as in phrases.py; their gaps and options are
bounded, so that the work is linear in the text. It finds signs to be weighed, not places to be cut out; disguises
inside words are undone beforehand (readings.py), where the matcher undoes them itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from raysafe.guards.features import folded

_TOKEN = re.compile(r"\s+|\(|\)\?|\)|\||\{(\d+),(\d+)\}|([a-z0-9]+)(\*?)")
_WORD = re.compile(r"[a-z0-9]+|[^\x00-\x7f]+")
_OTHER = "\x00"
_FIRST = 0x4E00
_CACHE_LIMIT = 50_000


class _Symbols(dict[str, str]):
    """Words to symbols, filled as words turn up."""

    def __init__(self, whole: Mapping[str, str], beginnings: Mapping[str, str]) -> None:
        super().__init__(whole)
        self._beginnings = beginnings
        self._longest = max(map(len, beginnings), default=0)

    def __missing__(self, word: str) -> str:
        symbol = _OTHER
        for length in range(min(len(word), self._longest), 0, -1):
            if word[:length] in self._beginnings:
                symbol = self._beginnings[word[:length]]
                break
        if len(self) < _CACHE_LIMIT and len(word) < 40:
            self[word] = symbol
        return symbol


class SignFinder:
    """Finds which of several kinds of signs a text holds; `phrases[kind]` are the kind's phrases."""

    def __init__(self, phrases: Mapping[str, Sequence[str]]) -> None:
        """Raises ValueError where a phrase isn't in the language."""
        written = {
            (token[3], bool(token[4]))
            for some in phrases.values()
            for phrase in some
            for token in _tokens(phrase)
            if token[3]
        }
        self._symbols = {word: chr(_FIRST + number) for number, word in enumerate(sorted(written))}
        whole = {word: symbol for (word, open_end), symbol in self._symbols.items() if not open_end}
        beginnings = {word: symbol for (word, open_end), symbol in self._symbols.items() if open_end}
        self._of_word = _Symbols(whole, beginnings)
        self._kinds = {
            kind: re.compile("|".join(self._expression(phrase) for phrase in some), re.DOTALL)
            for kind, some in phrases.items()
        }

    def find(self, text: str) -> list[str]:
        """The kinds of signs in the text."""
        plain = bytes(folded(text)).decode("utf-8", "replace").replace("'", "").replace("\u2019", "")
        of_word = self._of_word
        symbols = "".join([of_word[word] for word in _WORD.findall(plain)])
        return [kind for kind, expression in self._kinds.items() if expression.search(symbols)]

    def _expression(self, phrase: str) -> str:
        written = []
        for token in _tokens(phrase):
            if token[3]:
                written.append(f"[{self._matching(token[3], bool(token[4]))}]")
            elif token[1]:
                written.append(f".{{{token[1]},{token[2]}}}?")
            elif token[0] == "(":
                written.append("(?:")
            elif not token[0].isspace():
                written.append(token[0])
        try:
            re.compile("".join(written))
        except re.error as error:
            raise ValueError(f"phrase {phrase!r} isn't in the language of phrases: {error}") from None
        return "".join(written)

    def _matching(self, word: str, open_end: bool) -> str:
        """The symbols of all words that this one stands for: its own, and longer known ones of the same beginning."""
        return "".join(
            symbol
            for (other, other_open), symbol in self._symbols.items()
            if (other.startswith(word) if open_end else other == word and not other_open)
        )


def _tokens(phrase: str) -> list[re.Match[str]]:
    found, at = [], 0
    while at < len(phrase):
        token = _TOKEN.match(phrase, at)
        if token is None:
            raise ValueError(f"phrase {phrase!r} holds {phrase[at]!r}, which is not in the language of phrases")
        found.append(token)
        at = token.end()
    return found
