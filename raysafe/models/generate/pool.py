"""What a scheduler steps: rows of many callers that are written side by side, whatever computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raysafe.models.generate.rows import Row

Failures = list[tuple[Row, Exception]]


class Pool(Protocol):
    """Rows of unlike callers. One thread uses it."""

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Begin to write those rows, of the first ones, for which there is room, and return them."""
        ...

    def drop(self, rows: Sequence[Row]) -> None:
        """Write no more of these rows, from the next step on."""
        ...

    def step(self) -> Failures:
        """Write some more of the rows; those that failed have left, and come with the reason."""
        ...
