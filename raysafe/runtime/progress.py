"""Progress in the driver: a live bar in a terminal, a line every ten seconds elsewhere, and TensorBoard always."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from tensorboardX import SummaryWriter

from raysafe.runtime.run import Run

LINE_INTERVAL_S = 10.0
TENSORBOARD = "tensorboard"
_SHOWN = ("loss", "accuracy", "validation/loss", "validation/accuracy", "tokens_per_s")


class Progress:
    """Context manager around one fit()."""

    def __init__(self, run: Run, title: str) -> None:
        self.run, self.title = run, title
        self.console = Console(stderr=True)
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(f"{title}: starting workers", total=None, figures="")
        self.shown: dict[str, float] = {}
        self.line_at = time.monotonic()
        # event files are appended to, which object stores can't: there they are written here and copied at the end
        self.scratch = None if run.folder.is_local else tempfile.TemporaryDirectory(prefix="raysafe-tensorboard-")
        folder = Path(self.scratch.name) if self.scratch else run.folder.local_path(TENSORBOARD)
        self.writer = SummaryWriter(str(folder), flush_secs=10)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        self.writer.close()
        if self.scratch is not None:
            self.run.folder.upload(self.scratch.name, TENSORBOARD)
            self.scratch.cleanup()

    def show(self, step: int, total: int | None, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)
        self.shown |= {name: row[name] for name in _SHOWN if name in row}
        figures = "  ".join(f"{name} {value:.4g}" for name, value in self.shown.items())
        self.bar.update(self.task, description=self.title, completed=step, total=total, figures=figures)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.line_at > LINE_INTERVAL_S or step == total):
            self.line_at = now
            self.console.print(f"{self.title}: step {step} of {total}  {figures}", highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(f"{self.title}: {text}", highlight=False, soft_wrap=True)
