"""A memory for rehearsal: a uniform sample of everything that went by (Vitter 1985, algorithm R)."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")


class Reservoir(Generic[Item]):
    """Holds at most `capacity` items; each one offered so far is in it with the same probability."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity, self.seen = capacity, 0
        self.items: list[Item] = []
        self._rng = np.random.default_rng(seed)

    def offer(self, item: Item) -> None:
        """Keep it perhaps, in place of another."""
        self.seen += 1
        if len(self.items) < self.capacity:
            self.items.append(item)
        elif (place := int(self._rng.integers(self.seen))) < self.capacity:
            self.items[place] = item
