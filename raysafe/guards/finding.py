"""Finding entities (an address, a number, a key) in one text, whole or streamed, in work linear in the text.

Each kind of entity has a pattern of bounded length, and what stands at a place is decided once no more text can change
it. Until then the text is held back: a word under way, digits under way, or what follows words that announce an entity
("my name is"). So chunks change nothing, and ordinary text is held back by one word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

WORD = 400
"""Characters of an entity without white space in it, at most, with those around it that decide whether it is one."""
NUMBER = 64
"""The same for digits with separators between them."""
BEFORE = 80
"""Characters before a place that a pattern may look at."""
_DECIMALS = "".join(chr(code) for code in range(0x20000) if chr(code).isdecimal())
SEPARATOR = r"[ \-\u00a0\u2010-\u2013]"
"""A pattern of what is written between the groups of a number."""
_NUMBER_CHARACTERS = f"{_DECIMALS} -\u00a0\u2010\u2011\u2012\u2013./()+"
_SHORT = 256
"""In texts of fewer characters one pattern is faster than a look for each need."""
_PREFIX = 64
"""Characters at the end of a text in which a trigger may be under way."""
_DIGIT, _DIGITS, _ASCII_DIGITS = re.compile(r"\d"), re.compile(r"\d+"), re.compile(r"[0-9]+")
_TRY = 8
"""Characters that a search passes in the time of one try at a place, at least."""

Place = tuple[int, int]
Check = Callable[[re.Match[str]], Place | None]


@dataclass(frozen=True, slots=True)
class Found:
    """An entity at text[start:end]; the evidence for it begins at `at`, and `kind` is its kind's number."""

    at: int
    start: int
    end: int
    kind: int


def whole_match(match: re.Match[str]) -> Place | None:
    return match.span()


def first_group(match: re.Match[str]) -> Place | None:
    return match.span(1)


@dataclass(frozen=True)
class Shape:
    """One kind of entity: what a pattern finds and `check` agrees to, which says where the entity is in the match.

    The pattern repeats nothing without a bound. `needs`: every match has one of these in it (in lower case); empty for
    no such rule. `digits`: every match has a digit in it, after at most `lead` characters where that is known; so has
    every match of `opening` then. Entities are words of at most WORD characters or digits of at most NUMBER, unless
    `reach` says how many characters after the beginning of `opening`, or of one of the `triggers` (phrases in lower
    case), decide about one.
    """

    name: str
    pattern: re.Pattern[str]
    check: Check = whole_match
    needs: tuple[str, ...] = ()
    digits: bool = False
    lead: int | None = None
    opening: re.Pattern[str] | None = None
    triggers: tuple[str, ...] = ()
    reach: int = 0

    def found(self, text: str, start: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """(where the match, where the entity begins, where it ends), from `start` on, for matches before `limit`."""
        while (match := self.pattern.search(text, start)) is not None and match.start() < limit:
            place = self.check(match)
            if place is None:
                start = match.start() + 1
            else:
                yield match.start(), *place
                start = max(place[1], match.start() + 1)

    def found_at(self, text: str, runs: Sequence[Place], start: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """What `found` gives, from the `runs` of digits in the text on: a few tries where these are few."""
        lead = self.lead
        places = sum(end - begin for begin, end in runs) + (lead or 0) * len(runs)
        if lead is None or places * _TRY > len(text) - start:
            yield from self.found(text, start, limit)
            return
        for begin, end in runs:
            for at in range(max(start, begin - lead), min(end, limit)):
                if at < start or (match := self.pattern.match(text, at)) is None:
                    continue
                start = at + 1
                place = self.check(match)
                if place is not None:
                    yield at, *place
                    start = max(start, place[1])


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text: ordinary where `kind` is None, else an entity of the kind with that number."""

    text: str
    kind: int | None = None


@dataclass
class Finder:
    """Kinds of entities in order: where two overlap, they are one of the kind that comes first."""

    shapes: Sequence[Shape]
    work: int = 0
    """Characters that patterns were set on, counted anew for each, which is what linearity is measured by."""
    digits: bool = field(init=False)
    """Whether any entity needs a digit."""
    openings: list[tuple[re.Pattern[str], int, bool]] = field(init=False)
    """Patterns, their reach, and whether a digit is in each of their matches."""
    screen: re.Pattern[str] | None = field(init=False)
    """What a text without digits has in it, folded, where it holds any entity; none where that can't be said."""
    under_way: re.Pattern[str] | None = field(init=False)
    """The words at the end of a text that a trigger may begin with."""

    def __post_init__(self) -> None:
        self.openings = [
            (shape.opening, shape.reach, shape.lead is not None) for shape in self.shapes if shape.opening is not None
        ]
        triggers = {trigger: shape.reach for shape in self.shapes for trigger in shape.triggers}
        if triggers:
            self.openings.append((phrases(triggers), max(triggers.values()), False))
        without = [shape for shape in self.shapes if not shape.digits]
        needs = _tree([need for shape in without for need in shape.needs], " ", whole=True)
        self.screen = re.compile(needs or r"(?!)") if all(shape.needs for shape in without) else None
        self.digits = len(without) < len(self.shapes)
        begun = _tree(triggers, r"\s+", whole=False)
        self.under_way = re.compile(rf"(?<!\w){begun}\Z", re.IGNORECASE) if triggers else None

    def parts(self, text: str) -> list[Part]:
        """A whole text in its parts."""
        return Stream(self).feed(text, ended=True)


class Stream:
    """One text that comes in chunks: `feed` gives the parts that are decided; `settled` counts their characters."""

    def __init__(self, finder: Finder) -> None:
        self.settled = 0
        self._finder, self._text, self._offset = finder, "", 0
        self._searched = 0
        self._behind: dict[int, int] = {}
        """By kind, where its last entity ended."""
        self._pending: list[Found] = []

    def feed(self, text: str, ended: bool = False) -> list[Part]:
        self._text += text
        limit = len(self._text) + 1 if ended else self._limit()
        if limit <= self.settled - self._offset:
            return []
        self._search(limit)
        parts = self._decided(limit)
        drop = self.settled - self._offset - BEFORE
        if drop > 0:
            self._text = self._text[drop:]
            self._offset += drop
        return parts

    def _limit(self) -> int:
        """Where the first entity may begin that more text could make, unmake or lengthen."""
        text, size, done = self._text, len(self._text), self.settled - self._offset
        word = max(text.rfind(" ", done), text.rfind("\n", done), text.rfind("\t", done), done - 1) + 1
        # past twice the bound, half of it is let go at once, so that each character is searched twice at most
        limit = word if size - word < 2 * WORD else size - WORD
        number = max(len(text.rstrip(_NUMBER_CHARACTERS)), done)
        if number < limit and _DIGIT.search(text, number):
            limit = min(limit, number if size - number < 2 * NUMBER else size - NUMBER)
        digits = self._finder.digits and digit_runs(text)
        for opening, reach, digit in self._finder.openings:
            if digit and not digits:
                continue
            if (match := opening.search(text, max(done, size - reach))) is not None:
                limit = min(limit, match.start())
        under_way = self._finder.under_way
        if under_way is not None and (match := under_way.search(text, max(done, size - _PREFIX))) is not None:
            limit = min(limit, match.start())
        return limit

    def _search(self, limit: int) -> None:
        """Find what begins before `limit` and hasn't been searched for."""
        text, offset, folded, runs = self._text, self._offset, _folded(self._text), digit_runs(self._text)
        searched, self._searched = self._searched, limit + offset
        screen = self._finder.screen if len(text) < _SHORT and not (self._finder.digits and runs) else None
        if screen is not None and screen.search(folded) is None:
            return
        for kind, shape in enumerate(self._finder.shapes):
            if shape.digits and not runs:
                continue
            for need in shape.needs:
                if need in folded:
                    break
            else:
                if shape.needs:
                    continue
            start = max(self._behind.get(kind, 0), searched) - offset
            self._finder.work += max(len(text) - start, 0)
            for at, begin, end in shape.found_at(text, runs, start, limit):
                self._pending.append(Found(at + offset, begin + offset, end + offset, kind))
                self._behind[kind] = max(end, at + 1) + offset
        self._pending.sort(key=lambda found: (found.start, found.end))

    def _decided(self, limit: int) -> list[Part]:
        """The parts up to `limit`, or to an entity that reaches over it; entities that overlap become one."""
        parts, until = list[Part](), min(limit, len(self._text)) + self._offset
        while self._pending:
            first, taken = self._pending[0], 1
            end, kind = first.end, first.kind
            while taken < len(self._pending) and self._pending[taken].start < end:
                end, kind = max(end, self._pending[taken].end), min(kind, self._pending[taken].kind)
                taken += 1
            if end > until:
                until = min(until, first.start)
                break
            self._take(parts, first.start)
            self._take(parts, end, kind)
            del self._pending[:taken]
        self._take(parts, until)
        return parts

    def _take(self, parts: list[Part], to: int, kind: int | None = None) -> None:
        if to > self.settled:
            parts.append(Part(self._text[self.settled - self._offset : to - self._offset], kind))
            self.settled = to


@lru_cache(maxsize=8)
def digit_runs(text: str) -> tuple[Place, ...]:
    """Where digits stand together. Several guards look at one text, so the last ones are kept."""
    return tuple(run.span() for run in (_ASCII_DIGITS if text.isascii() else _DIGITS).finditer(text))


def phrases(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of the phrases as whole words, whatever their case, with one to three spaces between words."""
    return re.compile(rf"(?<!\w)(?:{alternatives(words)})(?!\w)", re.IGNORECASE)


def alternatives(words: Iterable[str]) -> str:
    """The phrases as a part of a pattern, longer ones first."""
    return _tree(words, r"\s{1,3}", whole=True)


def _folded(text: str) -> str:
    """Text with its case folded as patterns ignore it."""
    if not text.isascii():
        text = text.replace("\u0130", "i").replace("\u0131", "i")
    return text.casefold()


def _tree(words: Iterable[str], space: str, whole: bool) -> str:
    """A pattern of the words, or of all that they may begin with, branching by character: ten times faster than a list.

    `space` is the pattern of a space in them.
    """
    following: dict[str, list[str]] = {}
    for word in filter(None, words):
        following.setdefault(word[0], []).append(word[1:])
    branches = []
    for character, rests in following.items():
        rest = _tree(rests, space, whole)
        optional = "?" if rest and ("" in rests or not whole) else ""
        branches.append(f"{space if character == ' ' else re.escape(character)}{rest}{optional}")
    return f"(?:{'|'.join(branches)})" if branches else ""
