"""A progress bar in the driver: live in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_INTERVAL_S = 10.0


class Bar:
    """Context manager around a piece of work; unit: what is counted, for the lines."""

    def __init__(self, title: str, *, total: int | None = None, unit: str = "step") -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, figures="")
        self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, done: int, figures: str = "") -> None:
        """`done` of the total are done; figures: what else to say of it."""
        self.done = done
        self._bar.update(self._task, description=self.title, completed=done, total=self.total, figures=figures)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self._line_at > LINE_INTERVAL_S or done == self.total):
            self._line_at = now
            self.say(f"{self.unit} {done} of {self.total}  {figures}".rstrip())

    def advance(self, by: int) -> None:
        self.show(self.done + by)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self.console.print(f"{self.title}: {text}", highlight=False, soft_wrap=True)
