"""Progress of one fit() in the driver: a bar, and TensorBoard always."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX import SummaryWriter

from raysafe.runtime.bar import Bar
from raysafe.runtime.run import Run

TENSORBOARD = "tensorboard"
_SHOWN = ("loss", "accuracy", "validation/loss", "validation/accuracy", "tokens_per_s")


class Progress:
    """Context manager around one fit()."""

    def __init__(self, run: Run, title: str) -> None:
        self.run, self.title = run, title
        self.bar = Bar(f"{title}: starting workers")
        self.shown: dict[str, float] = {}
        # event files are appended to, which object stores can't: there they are written here and copied at the end
        self.scratch = None if run.folder.is_local else tempfile.TemporaryDirectory(prefix="raysafe-tensorboard-")
        folder = Path(self.scratch.name) if self.scratch else run.folder.local_path(TENSORBOARD)
        self.writer = SummaryWriter(str(folder), flush_secs=10)

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)
        self.writer.close()
        if self.scratch is not None:
            self.run.folder.upload(self.scratch.name, TENSORBOARD)
            self.scratch.cleanup()

    def show(self, step: int, total: int | None, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)
        self.shown |= {name: row[name] for name in _SHOWN if name in row}
        self.bar.title, self.bar.total = self.title, total
        self.bar.show(step, "  ".join(f"{name} {value:.4g}" for name, value in self.shown.items()))

    def say(self, text: str) -> None:
        self.bar.title = self.title
        self.bar.say(text)
