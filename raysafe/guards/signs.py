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
_APART = bytes(byte if chr(byte) in "abcdefghijklmnopqrstuvwxyz0123456789" else 32 for byte in range(256))
_OTHER = "\x00"
_ANY = ""
_FIRST = 0x4E00
_CACHE_LIMIT = 50_000
_DENSE = 4


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
        self._beginning: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
        """The phrases, with their kinds, that may begin with a symbol."""
        self._anywhere: list[tuple[str, re.Pattern[str]]] = []
        """Those that may begin with any, or be empty."""
        for kind, some in phrases.items():
            for phrase in some:
                expression = re.compile(self._expression(phrase), re.DOTALL)
                first = self._first(phrase)
                if first is None:
                    self._anywhere.append((kind, expression))
                for symbol in first or ():
                    self._beginning.setdefault(symbol, []).append((kind, expression))
        self._start = re.compile(f"[{''.join(self._beginning)}]" if self._beginning else "(?!)")

    def find(self, text: str) -> list[str]:
        """The kinds of signs in the text."""
        return self._found(self._read(text))

    def _read(self, text: str) -> str:
        """The text's words as symbols."""
        raw = folded(text).tobytes()
        if raw.isascii():
            words = raw.translate(_APART, b"'").decode().split()
        else:
            words = _WORD.findall(raw.decode("utf-8", "replace").replace("'", "").replace("\u2019", ""))
        return "".join(map(self._of_word.__getitem__, words))

    def _found(self, symbols: str) -> list[str]:
        """The kinds found: few words begin a phrase, so that phrases are tried at those only, unless they are many."""
        starts = list(self._start.finditer(symbols))
        if len(starts) * _DENSE > len(symbols):
            return self._found_slowly(symbols)
        found = {kind for kind, expression in self._anywhere if expression.search(symbols)}
        for start in starts:
            for kind, expression in self._beginning[start[0]]:
                if kind not in found and expression.match(symbols, start.start()):
                    found.add(kind)
        return [kind for kind in self._kinds if kind in found]

    def _found_slowly(self, symbols: str) -> list[str]:
        return [kind for kind, expression in self._kinds.items() if expression.search(symbols)]

    def _first(self, phrase: str) -> set[str] | None:
        """The symbols that a phrase may begin with; None where that may be any, or it may be empty."""
        tokens = _tokens(phrase)
        first, empty, _ = self._first_of(tokens, 0)
        return None if empty or _ANY in first else first

    def _first_of(self, tokens: list[re.Match[str]], at: int) -> tuple[set[str], bool, int]:
        """For alternatives from token `at` on: their first symbols, whether one may be empty, and where they end."""
        all_first, any_empty = set[str](), False
        first, empty = set[str](), True
        while at < len(tokens) and tokens[at][0] not in (")", ")?"):
            token = tokens[at]
            some, none = set[str](), True
            if token[0] == "|":
                all_first, any_empty = all_first | first, any_empty or empty
                first, empty = set(), True
            elif token[0] == "(":
                some, none, at = self._first_of(tokens, at + 1)
                none = none or (tokens[at : at + 1] != [] and tokens[at][0] == ")?")
            elif token[3]:
                some, none = set(self._matching(token[3], bool(token[4]))), False
            elif token[1]:
                some, none = ({_ANY} if int(token[2]) else set()), int(token[1]) == 0
            if empty and token[0] != "|":
                first, empty = first | some, none
            at += 1
        return all_first | first, any_empty or empty, at

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
