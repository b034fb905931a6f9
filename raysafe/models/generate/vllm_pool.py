"""Rows of many callers on vLLM, which joins and drops them by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raysafe.models.generate.pool import Failures
from raysafe.models.generate.rows import Row

if TYPE_CHECKING:
    from raysafe.models.generate.vllm_engine import VLLMEngine


class VLLMPool:
    """A Pool. What fails in a step fails all rows, for one step serves them all."""

    def __init__(self, engine: VLLMEngine, max_rows: int) -> None:
        self._engine, self._max_rows = engine, max_rows
        self._names: dict[Row, str] = {}

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        taken = list(rows)[: self._max_rows - len(self._names)]
        self._names |= {row: self._engine.add(row, row.sampling, piecewise=True) for row in taken}
        return taken

    def drop(self, rows: Sequence[Row]) -> None:
        self._engine.drop([self._names.pop(row) for row in rows if row in self._names])

    def step(self) -> Failures:
        failures: Failures = []
        try:
            self._engine.advance()
        except Exception as error:
            failures = [(row, error) for row in self._names if row.finish is None]
            self.drop(list(self._names))
        self._names = {row: name for row, name in self._names.items() if row.finish is None}
        return failures
