"""Progress of one training in the driver: a bar, and TensorBoard always."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysafe.errors import RaySafeError
from raysafe.runtime.bar import Bar
from raysafe.runtime.headline import one_line
from raysafe.runtime.run import Run
from raysafe.runtime.tensorboard import EventFile

TENSORBOARD = "tensorboard"


class Progress:
    """Context manager around one training."""

    def __init__(self, run: Run, title: str, *, first: str = "starting workers") -> None:
        """first: what is waited for before the first row."""
        self.run, self.title = run, title
        self.bar = Bar(f"{title}: {first}")
        self.shown: dict[str, Any] = {}
        """The last of every figure."""
        # event files are appended to, which object stores can't: there they are written here and copied at the end
        self.scratch = None if run.folder.is_local else tempfile.TemporaryDirectory(prefix="raysafe-tensorboard-")
        folder = Path(self.scratch.name) if self.scratch else run.folder.local_path(TENSORBOARD)
        self.events: EventFile | None = None
        self._recorded = True
        self._try(lambda: self._open(folder))

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)
        self._try(self._close)

    def record(self, step: int, row: dict[str, Any]) -> None:
        """A row for TensorBoard."""
        if (events := self.events) is not None:
            self._try(lambda: events.add(step, row))

    def show(self, step: int, total: int | None, row: dict[str, Any]) -> None:
        """A row for the bar."""
        self.shown |= row
        self.bar.title, self.bar.total = self.title, total
        self.bar.show(step, "  ".join(f"{name} {self.shown[name]:.4g}" for name in one_line(self.shown)))

    def say(self, text: str) -> None:
        self.bar.title = self.title
        self.bar.say(text)

    def _open(self, folder: Path) -> None:
        self.events = EventFile(folder)

    def _close(self) -> None:
        try:
            if self.events is not None:
                self.events.flush()
            if self.scratch is not None:
                self.run.folder.upload(self.scratch.name, TENSORBOARD)
        finally:
            if self.scratch is not None:
                self.scratch.cleanup()

    def _try(self, action: Callable[[], None]) -> None:
        """Do what TensorBoard needs; a disk that refuses it ends that, with a sentence and an event."""
        if not self._recorded:
            return
        try:
            action()
        except (OSError, RaySafeError) as error:
            self._recorded, self.events = False, None
            self.say(f"TensorBoard gets no more rows, training goes on without it: {error}")
            # a disk that takes no event stops the run by itself
            with suppress(RaySafeError):
                self.run.event("tensorboard-failed", reason=str(error))
