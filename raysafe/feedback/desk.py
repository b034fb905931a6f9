"""Hands items to raters: each keeps an item until it is judged, and two raters rarely get one that needs only one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from raysafe.feedback.items import Item
from raysafe.feedback.judgements import Choice, Judgement, Judgements
from raysafe.feedback.order import Which, first_side, left_for, shared_by_all
from raysafe.feedback.project import ProjectSettings

HELD_S = 600.0
"""How long an item that a rater doesn't answer is kept from the others."""


class Turn(NamedTuple):
    """What a rater is to judge now."""

    item: Item | None
    """None where nothing is left."""
    sides: tuple[Which, ...]
    """In the order in which they are shown."""
    done: int
    left: int
    """Items that are still to come, this one included."""


class Desk:
    """The items of one project at work. items: in the order in which they are wanted."""

    def __init__(
        self, judgements: Judgements, items: Sequence[Item], settings: ProjectSettings, *, wanted: int = 1
    ) -> None:
        """wanted: judgements that each item needs, those that all raters share aside."""
        self.judgements, self.settings, self.wanted = judgements, settings, wanted
        self.items = {item.name: item for item in items}
        self._shared = shared_by_all(sorted(self.items), settings.overlap, seed=settings.seed)
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def turn(self, rater: str) -> Turn:
        """The item that the rater holds, or else the next one."""
        with self._lock:
            done = self.judgements.done(rater)
            left = left_for(
                list(self.items), done=done, counts=self.judgements.counts(), shared=self._shared, wanted=self.wanted
            )
            held = self._held.get(rater, ("", 0.0))[0]
            if held in self.items and held not in done:
                name = held
            else:
                others = {
                    name
                    for other, (name, since) in self._held.items()
                    if other != rater and time.monotonic() - since < HELD_S
                }
                free = [name for name in left if name in self._shared or name not in others]
                name = next(iter(free or left), None)
            if name is None:
                self._held.pop(rater, None)
                return Turn(None, (), len(done & self.items.keys()), 0)
            self._held[rater] = (name, time.monotonic())
            return Turn(self.items[name], self._sides(rater, name), len(done & self.items.keys()), len({name, *left}))

    def judge(self, rater: str, item: str, choice: Choice, rating: float | None, seconds: float) -> None:
        """Keep a judgement; raises AlreadyJudged."""
        sides = self._sides(rater, item)
        first = sides[0] if len(sides) == 2 else None
        self.judgements.add(Judgement(rater, item, choice, rating, first, seconds, datetime.now(UTC)))

    def undo(self, rater: str) -> bool:
        """Take the rater's latest judgement back and hand its item out again; false where there is none."""
        name = self.judgements.undo(rater, among=self.items.keys())
        if name is not None:
            with self._lock:
                self._held[rater] = (name, time.monotonic())
        return name is not None

    def sides(self, rater: str, item: str) -> tuple[Which, ...]:
        """The sides of an item as the rater is shown them; raises KeyError for an item that isn't here."""
        return self._sides(rater, item)

    def _sides(self, rater: str, item: str) -> tuple[Which, ...]:
        if not self.items[item].compares:
            return ("a",)
        return ("a", "b") if first_side(self.settings.seed, rater, item) == "a" else ("b", "a")
