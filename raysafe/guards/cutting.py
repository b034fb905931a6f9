"""Cutting phrases out of a text, whole or streamed, so that what is left holds none of them.

A text is looked at twice: as it came, where overlapping phrases are cut as one, and as it reads once cut, for a cut can
bring words together that a gap of a phrase then reaches over. The second look cuts nothing: it says what it found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, MutableSequence

from raysafe.guards.matcher import Hit, Matcher
from raysafe.guards.views import NONE, FirstLook, FullLook

Span = tuple[int, int]


def merge(spans: MutableSequence[Span], hits: Iterable[Hit]) -> None:
    """Add hits to spans, which stay in order and apart: what overlaps becomes one."""
    for hit in hits:
        start, end, after = hit.start, hit.end, list[Span]()
        while spans and spans[-1][1] > start:
            span = spans.pop()
            if span[0] >= end:
                after.append(span)
            else:
                start, end = min(start, span[0]), max(end, span[1])
        spans.append((start, end))
        spans.extend(reversed(after))


def cut_out(texts: tuple[str, ...], hits: Iterable[Hit], replacement: str) -> tuple[str, ...]:
    """The texts, joined by one character, with each phrase replaced where it begins and cut from the texts after."""
    spans: list[Span] = []
    merge(spans, hits)
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text) + 1)
    parts: list[list[str]] = [[] for _ in texts]
    done = [0] * len(texts)
    for start, stop in spans:
        first, last = bisect_right(starts, start) - 1, bisect_right(starts, stop - 1) - 1
        for index in range(first, last + 1):
            begin, end = max(start - starts[index], 0), min(stop - starts[index], len(texts[index]))
            parts[index] += [texts[index][done[index] : begin], replacement if index == first else ""]
            done[index] = end
    return tuple("".join([*parts[i], text[done[i] :]]) for i, text in enumerate(texts))


class Held:
    """Text on its way out, in the pieces it came in: each character is copied once, however small the pieces are."""

    def __init__(self) -> None:
        self.taken = 0
        """Characters that have gone out."""
        self.settled = 0
        """Characters of the original text that they stand for."""
        self._pieces: deque[tuple[str, int | None]] = deque()
        self._used = 0

    def put(self, text: str, stands_for: int | None = None) -> None:
        """More text, which stands for so many characters of the original; for itself where no number is given."""
        if text:
            self._pieces.append((text, stands_for))

    def take(self, to: int) -> str:
        """The text up to its character `to`; it is held no longer."""
        parts: list[str] = []
        while self.taken < to and self._pieces:
            piece, stands_for = self._pieces[0]
            part = piece[self._used : self._used + to - self.taken]
            parts.append(part)
            if stands_for is None:
                self.settled += len(part)
            elif self._used == 0:
                self.settled += stands_for
            self.taken += len(part)
            self._used += len(part)
            if self._used == len(piece):
                self._pieces.popleft()
                self._used = 0
        return "".join(parts)


class Cutter:
    """One streamed text: `feed` gives what can be neither part of a phrase nor, once cut, of another.

    `rules` are those whose phrases were cut out; `formed` is the rule of a phrase in the text as it reads once cut:
    nothing leaves any more.
    """

    def __init__(self, matcher: Matcher, replacement: str, decode: frozenset[str] = NONE) -> None:
        self.rules: set[int] = set()
        self.formed: int | None = None
        self._replacement = replacement
        self._scan, self._spans = FullLook(matcher, decode), deque[Span]()
        self._watch = FirstLook(matcher, decode)
        self._came, self._cut = Held(), Held()

    @property
    def settled(self) -> int:
        """How many characters of what came are behind what has left."""
        return self._cut.settled

    def feed(self, text: str) -> str:
        self._came.put(text)
        self._advance(self._scan.feed(text))
        return self._leave()

    def finish(self) -> str:
        """The text has ended: the rest that may leave."""
        self._advance(self._scan.finish())
        if self.formed is None:
            self.formed = self._watch.finish()
        return self._leave()

    def _advance(self, hits: list[Hit]) -> None:
        """What the first look has cleared goes on to the second."""
        self.rules.update(hit.rule for hit in hits)
        merge(self._spans, hits)
        safe, passed = self._scan.safe, list[str]()

        def pass_on(text: str, stands_for: int | None = None) -> None:
            self._cut.put(text, stands_for)
            passed.append(text)

        while self._spans and self._spans[0][1] <= safe:
            start, end = self._spans.popleft()
            pass_on(self._came.take(start))
            self._came.take(end)
            pass_on(self._replacement, end - start)
        pass_on(self._came.take(min(safe, self._spans[0][0]) if self._spans else safe))
        if self.formed is None:
            self.formed = self._watch.feed("".join(passed))

    def _leave(self) -> str:
        return self._cut.take(self._watch.safe) if self.formed is None else ""
