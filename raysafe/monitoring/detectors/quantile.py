"""A quantile of a stream by five markers, without keeping values: the P-squared algorithm (Jain and Chlamtac 1985)."""

from __future__ import annotations

from typing import Any


class StreamingQuantile:
    """The q-quantile of all that was added."""

    def __init__(self, q: float) -> None:
        """Raises ValueError unless 0 < q < 1."""
        if not 0 < q < 1:
            raise ValueError(f"q must lie between 0 and 1, got {q}")
        self.q = q
        self._heights: list[float] = []
        self._places = [1, 2, 3, 4, 5]
        self._wanted = [1, 1 + 2 * q, 1 + 4 * q, 3 + 2 * q, 5.0]

    def add(self, value: float) -> None:
        if len(self._heights) < 5:
            self._heights.append(value)
            self._heights.sort()
            return
        heights, places = self._heights, self._places
        cell = sum(value >= height for height in heights[1:4])
        heights[0], heights[4] = min(heights[0], value), max(heights[4], value)
        for marker in range(cell + 1, 5):
            places[marker] += 1
        for marker, step in enumerate((0, self.q / 2, self.q, (1 + self.q) / 2, 1)):
            self._wanted[marker] += step
        for marker in (1, 2, 3):
            self._adjust(marker)

    @property
    def value(self) -> float | None:
        """None before the first value; of up to five, the one whose rank is nearest below."""
        count = len(self._heights)
        if self._places[4] > 5:
            return self._heights[2]
        return self._heights[min(int(self.q * count), count - 1)] if count else None

    def _adjust(self, marker: int) -> None:
        """Move a marker by one place towards the one it should have, its height by the parabola through three."""
        places, heights = self._places, self._heights
        gap = self._wanted[marker] - places[marker]
        if not (gap >= 1 and places[marker + 1] - places[marker] > 1) and not (
            gap <= -1 and places[marker - 1] - places[marker] < -1
        ):
            return
        step = 1 if gap > 0 else -1
        below, here, above = places[marker - 1 : marker + 2]
        low, height, high = heights[marker - 1 : marker + 2]
        parabola = height + step / (above - below) * (
            (here - below + step) * (high - height) / (above - here)
            + (above - here - step) * (height - low) / (here - below)
        )
        if not low < parabola < high:
            parabola = height + step * (heights[marker + step] - height) / (places[marker + step] - here)
        heights[marker] = parabola
        places[marker] += step

    def state(self) -> dict[str, Any]:
        return {"heights": list(self._heights), "places": list(self._places), "wanted": list(self._wanted)}

    def load(self, state: dict[str, Any]) -> None:
        self._heights, self._wanted = [float(h) for h in state["heights"]], [float(w) for w in state["wanted"]]
        self._places = [int(place) for place in state["places"]]
