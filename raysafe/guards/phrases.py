"""The language of forbidden phrases and its position automaton (Glushkov, 1961): no construct can backtrack or grow.

make a bomb               words; any separators between them, and separators inside a word ("b.o.m.b", "b o m b")
(make|build) {0,3} bomb   one of several; a gap of none to three words
(a|the)? explosive*       optional; any ending of the word
(制造|制作) 炸弹           words of a script without spaces may stand side by side
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from typing import Literal

from raysafe.guards.unicode import END_OF_TEXT, IGNORED, READS_AS, SEPARATORS, SHARP_S, SPACE, fold

GAP_WORD_LENGTH = 24
"""Letters of a word that a gap passes over, at most."""
MAX_GAP_WORDS = 8
MAX_POSITIONS = 150_000
LEAST_TURNED_LETTERS = 7
"""Shorter phrases aren't looked for in rot13 or backwards, where they may be words of their own: evil is live."""
_ENDINGS = ("s", "es", "ed", "ing")
Turn = Literal["rot13", "reversed"]
"""Ways to turn a phrase's letters that cost a text nothing: the turned phrase is one more phrase of the automaton."""
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_ROT13 = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM"
)
_TOKEN = re.compile(r"\s+|\(|\)\?|\)|\||\{(\d+),(\d+)\}|([^\s(){}|*?]+)(\*?)|(.)")


class _WordCharacter:
    """Any letter or digit."""

    def __contains__(self, symbol: object) -> bool:
        return symbol not in SEPARATORS


_WORD_CHARACTER = _WordCharacter()
_JOINERS = frozenset(SEPARATORS - {SPACE, END_OF_TEXT})
_GAPS = frozenset(SEPARATORS - {END_OF_TEXT})


@dataclass(frozen=True)
class Fragment:
    """A piece of the automaton: where it may begin and end, whether it may be empty, its longest count of letters."""

    first: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()
    nullable: bool = True
    letters: int = 0
    fewest: int = 0
    """Letters of its shortest reading, or less."""


@dataclass
class Positions:
    """The automaton of all phrases: position p accepts a symbol in `accepts[p]`, then one of `follow[p]` may come."""

    accepts: list[Container[str]] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)
    starts: set[int] = field(default_factory=set)
    starts_anywhere: set[int] = field(default_factory=set)
    rule: dict[int, int] = field(default_factory=dict)
    alphabet: set[str] = field(default_factory=set)
    max_letters: int = 0

    def add(self, phrase: str, rule: int, turned: Container[Turn] = ()) -> None:
        """Add a phrase of rule number `rule`; raises ValueError with one sentence where it isn't in the language."""
        begin = len(self.accepts)
        fragment = _Parser(phrase, self).parse()
        written = range(begin, len(self.accepts))
        if fragment.nullable:
            raise ValueError(f"phrase {phrase!r} may match nothing at all; give it at least one required word")
        turn = fragment.fewest >= LEAST_TURNED_LETTERS
        # reversed before the word boundary behind its end is joined to it, which would be reversed as well
        backward = self._reversed(fragment, written) if turn and "reversed" in turned else None
        self._begins_and_ends(fragment, rule)
        if backward is not None:
            self._begins_and_ends(backward, rule)
        if turn and "rot13" in turned:
            self.add(phrase.translate(_ROT13), rule)

    def _begins_and_ends(self, fragment: Fragment, rule: int) -> None:
        """The fragment is a whole phrase."""
        for position in fragment.first:
            (self.starts_anywhere if self._unspaced(position) else self.starts).add(position)
        after = self.position(SEPARATORS)
        self.rule[after] = rule
        for position in fragment.last:
            if self._unspaced(position):
                self.rule[position] = rule
            else:
                self.follow[position].add(after)
        self.max_letters = max(self.max_letters, fragment.letters)

    def _reversed(self, fragment: Fragment, positions: range) -> Fragment:
        """The phrase at `positions`, last letter first. Of a last word with any ending, the commonest endings are read:
        after any letters at all, every word of a text might be the beginning of a phrase."""
        shift = len(self.accepts) - positions.start
        for position in positions:
            self.position(self.accepts[position])
        for position in positions:
            for following in self.follow[position]:
                if following in positions:
                    self.follow[following + shift].add(position + shift)
        first = {p + shift for p in fragment.last if self.accepts[p] is not _WORD_CHARACTER}
        if len(first) < len(fragment.last):
            stem = Fragment(frozenset(first), frozenset(), False)
            endings = [reduce(self.cat, map(self._letter, reversed(ending))) for ending in _ENDINGS]
            first = self.either(stem, *(self.cat(ending, stem) for ending in endings)).first
        return replace(fragment, first=frozenset(first), last=frozenset(p + shift for p in fragment.first))

    def _unspaced(self, position: int) -> bool:
        """Whether the position accepts a letter of a script without spaces, which has no word boundaries to ask for."""
        accepted = self.accepts[position]
        if not isinstance(accepted, frozenset) or any(symbol.isascii() for symbol in accepted):
            # a Latin letter accepts look-alikes of other scripts too
            return False
        names = (unicodedata.name(symbol, "") for symbol in accepted)
        return any(name.startswith(_UNSPACED) for name in names)

    def _letter(self, letter: str) -> Fragment:
        self.alphabet.add(letter)
        return self.one(frozenset(letter))

    def are_unspaced(self, positions: frozenset[int]) -> bool:
        """Whether all of the positions accept letters of scripts without spaces: their words stand side by side."""
        return all(self._unspaced(position) for position in positions)

    def position(self, accepted: Container[str]) -> int:
        if len(self.accepts) >= MAX_POSITIONS:
            raise ValueError(f"the phrases need more than {MAX_POSITIONS:,} positions; shorten gaps and alternatives")
        self.accepts.append(accepted)
        self.follow.append(set())
        return len(self.accepts) - 1

    def one(self, accepted: Container[str], letters: int = 1) -> Fragment:
        at = frozenset({self.position(accepted)})
        return Fragment(at, at, False, letters, letters)

    def repeated(self, accepted: frozenset[str]) -> Fragment:
        """One or more separators: the only loop there is, and it counts no letters."""
        fragment = self.one(accepted, 0)
        self._join(fragment.last, fragment.first)
        return fragment

    def cat(self, left: Fragment, right: Fragment) -> Fragment:
        self._join(left.last, right.first)
        first = left.first | right.first if left.nullable else left.first
        last = left.last | right.last if right.nullable else right.last
        return Fragment(
            first, last, left.nullable and right.nullable, left.letters + right.letters, left.fewest + right.fewest
        )

    def either(self, *options: Fragment) -> Fragment:
        return Fragment(
            frozenset().union(*(option.first for option in options)),
            frozenset().union(*(option.last for option in options)),
            any(option.nullable for option in options),
            max(option.letters for option in options),
            min(option.fewest for option in options),
        )

    def optional(self, fragment: Fragment) -> Fragment:
        return Fragment(fragment.first, fragment.last, True, fragment.letters)

    def word(self, text: str, any_ending: bool) -> Fragment:
        """The word written together (punctuation inside at will), or spelled with separators between all letters."""
        symbols = "".join(fold(character) for character in text).replace(IGNORED, "").lower().replace(SHARP_S, "ss")
        if not symbols or any(symbol in SEPARATORS for symbol in symbols):
            raise ValueError(f"word {text!r} holds a character that is no letter and no digit; write a space instead")
        self.alphabet.update(symbols, SHARP_S, *(READS_AS.get(symbol, "") for symbol in symbols))
        together = self._spelled(symbols, _JOINERS, required=False)
        if any_ending:
            together = self.cat(together, self._ending())
        if len(symbols) == 1:
            return together
        return self.either(together, self._spelled(symbols, _GAPS, required=True))

    def _spelled(self, symbols: str, separators: frozenset[str], required: bool) -> Fragment:
        def apart(left: Fragment, right: Fragment) -> Fragment:
            between = self.repeated(separators)
            return self.cat(self.cat(left, between if required else self.optional(between)), right)

        word: Fragment | None = None
        for letters in re.findall("ss|.", symbols, re.DOTALL):
            spelled = [self.one(frozenset(symbol + READS_AS.get(symbol, ""))) for symbol in letters]
            part = reduce(apart, spelled)
            if letters == "ss":
                part = self.either(part, self.one(frozenset(SHARP_S)))
            word = part if word is None else apart(word, part)
        return word or Fragment()

    def _ending(self) -> Fragment:
        """Up to GAP_WORD_LENGTH more letters of the same word."""
        ending = Fragment()
        for _ in range(GAP_WORD_LENGTH):
            ending = self.optional(self.cat(self.one(_WORD_CHARACTER), ending))
        return ending

    def gap(self, fewest: int, most: int) -> Fragment:
        """`fewest` to `most` words of any kind, with the separators before each."""
        words = Fragment()
        for number in range(most, 0, -1):
            letters = self.cat(self.one(_WORD_CHARACTER), self._ending())
            words = self.cat(self.cat(self.between(), letters), words)
            if number > fewest:
                words = self.optional(words)
        return words

    def between(self) -> Fragment:
        return self.repeated(_GAPS)

    def _join(self, last: frozenset[int], first: frozenset[int]) -> None:
        for position in last:
            self.follow[position] |= first


class PhraseError(ValueError):
    """A phrase that isn't in the language; `rule` is its rule's number."""

    def __init__(self, message: str, rule: int) -> None:
        super().__init__(message)
        self.rule = rule


@lru_cache(maxsize=32)
def compile_rules(rules: tuple[tuple[str, ...], ...], turned: frozenset[Turn] = frozenset()) -> Positions:
    """The automaton of all rules' phrases, kept, for a policy is validated before it is built; raises PhraseError."""
    positions = Positions()
    for number, phrases in enumerate(rules):
        for phrase in phrases:
            try:
                positions.add(phrase, number, turned)
            except ValueError as error:
                raise PhraseError(str(error), number) from None
    return positions


class _Parser:
    """Recursive descent over one phrase."""

    def __init__(self, phrase: str, positions: Positions) -> None:
        self._shown = repr(phrase if len(phrase) <= 60 else f"{phrase[:57]}...")
        self._positions = positions
        self._tokens = [match for match in _TOKEN.finditer(phrase.strip()) if not match[0].isspace()]
        self._next = 0

    def parse(self) -> Fragment:
        fragment = self._sequence()
        if self._next < len(self._tokens):
            raise ValueError(f"phrase {self._shown} has an unexpected {self._tokens[self._next][0]!r}")
        return fragment

    def _sequence(self) -> Fragment:
        """Items one after the other, with separators between them; a gap brings those before it."""
        positions, whole, after_gap = self._positions, None, False
        while self._next < len(self._tokens) and self._tokens[self._next][0] not in ("|", ")", ")?"):
            is_gap = self._tokens[self._next][1] is not None
            item = self._item()
            if whole is None:
                if is_gap:
                    raise ValueError(f"phrase {self._shown} begins with a gap; begin and end it with a word")
                whole = item
            elif is_gap and (after_gap or whole.nullable):
                raise ValueError(f"phrase {self._shown} has a gap after something that may be left out; join them")
            elif is_gap:
                whole = positions.cat(whole, item)
            else:
                whole = self._then(whole, item)
            after_gap = is_gap
        if whole is None or after_gap:
            raise ValueError(
                f"phrase {self._shown} has an empty part, or ends with a gap; begin and end it with a word"
            )
        return whole

    def _then(self, whole: Fragment, item: Fragment) -> Fragment:
        """whole, separators, item; the separators go with whichever side is there."""
        positions = self._positions
        required = Fragment(item.first, item.last, False, item.letters, item.fewest)
        between = positions.between()
        if positions.are_unspaced(whole.last) and positions.are_unspaced(item.first):
            between = positions.optional(between)
        separated = positions.cat(between, required)
        if whole.nullable:
            # an optional beginning takes its separators with it when it is left out
            filled = Fragment(whole.first, whole.last, False, whole.letters)
            joined = positions.cat(filled, separated)
            both = positions.either(joined, required)
            last = both.last | filled.last if item.nullable else both.last
            return Fragment(both.first, last, item.nullable, both.letters, 0 if item.nullable else both.fewest)
        return positions.cat(whole, positions.optional(separated) if item.nullable else separated)

    def _item(self) -> Fragment:
        token = self._tokens[self._next]
        self._next += 1
        if token[3] is not None:
            return self._positions.word(token[3], bool(token[4]))
        if token[1] is not None:
            fewest, most = int(token[1]), int(token[2])
            if not fewest <= most <= MAX_GAP_WORDS or most == 0:
                raise ValueError(f"gap {token[0]} in {self._shown} must rise to between 1 and {MAX_GAP_WORDS} words")
            return self._positions.gap(fewest, most)
        if token[0] == "(":
            return self._group()
        raise ValueError(
            f"phrase {self._shown} has an unexpected {token[0]!r}; words, (a|b), (a)?, {{0,3}} and word* are known"
        )

    def _group(self) -> Fragment:
        options = [self._sequence()]
        while self._next < len(self._tokens) and self._tokens[self._next][0] == "|":
            self._next += 1
            options.append(self._sequence())
        if self._next == len(self._tokens):
            raise ValueError(f"phrase {self._shown} has a '(' that is never closed")
        closing = self._tokens[self._next][0]
        self._next += 1
        either = self._positions.either(*options)
        return self._positions.optional(either) if closing == ")?" else either
