"""Threads for guards that may wait.

A thread can't be stopped, so that a check past its timeout keeps its own until it ends. How many are left behind so is
bounded: beyond it a guard fails at once instead of starting one more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Late(Exception):
    """A check isn't done in time."""


class Crowded(Exception):
    """As many checks as may be are still running past their timeouts."""


class Task(Generic[T]):
    """A check at work in a thread."""

    def __init__(self, workers: Workers, work: Callable[[], T], owner: object) -> None:
        self._workers, self._work, self.owner = workers, work, owner
        self._done = threading.Event()
        self._results: list[T] = []
        self._raised: Exception | None = None
        self.ended = self.left_behind = False

    def run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            # a guard that would end its thread (SystemExit) has failed as any other
            self._raised = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)

    def tell(self) -> None:
        self._done.set()

    def result(self, deadline: float) -> T:
        """What the check returned or raised; raises Late where it isn't done at `deadline` (of time.perf_counter)."""
        if not self._done.wait(max(0.0, deadline - time.perf_counter())) and self._workers.leave(self):
            raise Late
        self._done.wait()
        if self._raised is not None:
            raise self._raised
        return self._results[0]


class Workers:
    """Threads that are used again; there are as many as there are checks under way at once.

    left_behind: most checks past their timeouts, of all guards together. of_one: most of one guard, so that a guard
    whose model has died doesn't use up what is there for the others. idle: threads that are kept for later.
    """

    def __init__(self, left_behind: int = 64, of_one: int = 8, idle: int = 32) -> None:
        self._most, self._most_of_one, self._most_idle = left_behind, of_one, idle
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Task]] = []
        self._left: dict[int, int] = {}

    @property
    def left_behind(self) -> int:
        """Checks that run past their timeouts now."""
        with self._lock:
            return sum(self._left.values())

    def begin(self, work: Callable[[], T], owner: object) -> Task[T]:
        """Start `work` for the guard `owner`; raises Crowded."""
        task = Task(self, work, owner)
        with self._lock:
            # an id stays the owner's own while its tasks, which refer to it, are here
            mine, all_of_them = self._left.get(id(owner), 0), sum(self._left.values())
            if mine >= self._most_of_one:
                raise Crowded(f"{mine} of its checks are still running past their timeouts")
            if all_of_them >= self._most:
                raise Crowded(f"{all_of_them} checks of guards are still running past their timeouts")
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(task)
        else:
            threading.Thread(target=self._serve, args=(task,), name="guard", daemon=True).start()
        return task

    def leave(self, task: Task) -> bool:
        """Leave a late task behind; False where it has ended meanwhile."""
        with self._lock:
            if not task.ended:
                task.left_behind = True
                self._left[id(task.owner)] = self._left.get(id(task.owner), 0) + 1
            return task.left_behind

    def _serve(self, task: Task) -> None:
        inbox: SimpleQueue[Task] = SimpleQueue()
        while True:
            task.run()
            with self._lock:
                task.ended = True
                if task.left_behind:
                    self._forget(id(task.owner))
                stays = len(self._idle) < self._most_idle
                if stays:
                    self._idle.append(inbox)
            task.tell()
            if not stays:
                return
            del task
            task = inbox.get()

    def _forget(self, owner: int) -> None:
        self._left[owner] -= 1
        if not self._left[owner]:
            del self._left[owner]


WORKERS = Workers()
"""The threads of this process's guards."""
