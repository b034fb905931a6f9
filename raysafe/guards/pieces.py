"""Piece: a part of a text that knows where in the original text each of its characters comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Piece:
    """Characters of a text, or of one that was decoded from it.

    Character i comes from the original's characters `starts[i]` to `ends[i]`, and could be told once `whens[i]` of the
    original's characters had come: none of the three ever falls. What comes next begins at `after` or behind it.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    whens: Sequence[int]
    after: int

    @classmethod
    def plain(cls, text: str, at: int) -> Piece:
        """The original's own text from its character `at`."""
        after = at + len(text)
        ends = range(at + 1, after + 1)
        return cls(text, range(at, after), ends, ends, after)

    @classmethod
    def decoded(cls, text: str, start: int, end: int, when: int, after: int) -> Piece:
        """A text that only the whole of the original's characters `start` to `end` stands for."""
        size = len(text)
        return cls(text, [start] * size, [end] * size, [when] * size, after)

    def part(self, start: int, stop: int) -> Piece:
        after = self.starts[stop] if stop < len(self.text) else self.after
        return Piece(
            self.text[start:stop], self.starts[start:stop], self.ends[start:stop], self.whens[start:stop], after
        )

    def known_by(self, when: int) -> Piece:
        """The characters that could be told once `when` of the original's had come."""
        return self.part(0, bisect_right(self.whens, when))

    def __add__(self, other: Piece) -> Piece:
        return Piece(
            self.text + other.text,
            [*self.starts, *other.starts],
            [*self.ends, *other.ends],
            [*self.whens, *other.whens],
            other.after,
        )
