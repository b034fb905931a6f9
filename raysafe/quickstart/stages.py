"""The quickstart's stages as the user sees them: a line when one begins, a line with what came out when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from raysafe.config import Job
from raysafe.quickstart.state import State
from raysafe.runtime.run import Run


class Stage:
    """One stage in progress; `note` is what its last line says."""

    def __init__(self) -> None:
        self.note = ""
        self.reused = False


class Stages:
    """Numbers, times and announces the stages, and skips those that an earlier start finished."""

    def __init__(self, folder: Path, fingerprint: str, *, total: int, fresh: bool = False) -> None:
        self.state = State(folder, fingerprint)
        if fresh:
            self.state.clear()
        self.console = Console(stderr=True, highlight=False)
        self.total, self.number = total, 0
        self.seconds: dict[str, float] = {}
        self.runs: dict[str, Run] = {}

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Stage]:
        """Announce a stage and time it."""
        self.number += 1
        self.console.print(f"[bold]{self.number:>2}/{self.total}[/bold] {title}", soft_wrap=True)
        stage, began = Stage(), time.monotonic()
        yield stage
        self.seconds[name] = time.monotonic() - began
        spent = "reused" if stage.reused else f"{self.seconds[name]:.0f} s"
        self.console.print(f"      [dim]{spent}{'  ' if stage.note else ''}{stage.note}[/dim]", soft_wrap=True)

    def run(self, name: str, title: str, make: Callable[[], Job], note: Callable[[Run], str]) -> Run:
        """The stage's run: finished earlier, resumed, or new."""
        with self.step(name, title) as stage:
            found = self.state.finished_run(name)
            stage.reused = found is not None
            run = found or self.state.run(name, make())
            stage.note = note(run)
        self.runs[name] = run
        return run
