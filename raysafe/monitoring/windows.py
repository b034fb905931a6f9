"""Windows: what a gateway observed in some seconds, as sums and a sample of numbers, and never as text."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SAMPLE = 256
"""Values of one metric that a window keeps, drawn evenly from all of it: detectors of distributions read these."""
METRICS, CATEGORIES = 200, 64
"""Most names of metrics in a window, and of one metric's categories: guards' and tools' names are others' to choose."""
OTHER = "other"


@dataclass
class Summary:
    """Numbers of one metric: sums of all, and a sample."""

    count: int = 0
    total: float = 0.0
    total_squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    sample: list[float] = field(default_factory=list)

    def add(self, value: float, draw: random.Random) -> None:
        """One more value; the sample is a reservoir (Vitter 1985, algorithm R)."""
        self.count += 1
        self.total += value
        self.total_squares += value * value
        self.low, self.high = min(self.low, value), max(self.high, value)
        if len(self.sample) < SAMPLE:
            self.sample.append(value)
        elif (place := draw.randrange(self.count)) < SAMPLE:
            self.sample[place] = value

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def joined(self, other: Summary) -> Summary:
        """Of both; the sample is only put together, and may be longer than SAMPLE."""
        return Summary(
            self.count + other.count,
            self.total + other.total,
            self.total_squares + other.total_squares,
            min(self.low, other.low),
            max(self.high, other.high),
            [*self.sample, *other.sample],
        )


@dataclass
class Window:
    """What one gateway observed; `seconds` is how long it took."""

    seconds: float
    numbers: dict[str, Summary] = field(default_factory=dict)
    categories: dict[str, dict[str, int]] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As JSON."""
        numbers = {
            name: [s.count, s.total, s.total_squares, s.low, s.high, s.sample] for name, s in self.numbers.items()
        }
        return {"seconds": self.seconds, "numbers": numbers, "categories": self.categories}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Window:
        numbers = {name: Summary(*values) for name, values in body["numbers"].items()}
        return cls(body["seconds"], numbers, {name: dict(found) for name, found in body["categories"].items()})


class WindowBuilder:
    """A window that is being filled, by one thread. What is over its bounds is counted in `monitor.left_out`."""

    def __init__(self, seed: int = 0) -> None:
        self._draw = random.Random(seed)
        self._numbers: dict[str, Summary] = {}
        self._categories: dict[str, dict[str, int]] = {}
        self._left_out = 0

    def add(self, figures: Iterable[tuple[str, float]]) -> None:
        for name, value in figures:
            if not math.isfinite(value) or (name not in self._numbers and len(self._numbers) >= METRICS):
                self._left_out += 1
                continue
            if (summary := self._numbers.get(name)) is None:
                summary = self._numbers[name] = Summary()
            summary.add(value, self._draw)

    def count(self, name: str, category: str, times: int = 1) -> None:
        if name not in self._categories and len(self._categories) >= METRICS:
            self._left_out += 1
            return
        found = self._categories.setdefault(name, {})
        if category not in found and len(found) >= CATEGORIES - 1:
            category = OTHER
        found[category] = found.get(category, 0) + times

    def close(self, seconds: float) -> Window:
        """The window so far; the builder begins anew."""
        if self._left_out:
            self._numbers["monitor.left_out"] = Summary()
            self._numbers["monitor.left_out"].add(float(self._left_out), self._draw)
        window = Window(seconds, self._numbers, self._categories)
        self._numbers, self._categories, self._left_out = {}, {}, 0
        return window
