"""Sandboxes that wait for a job, so that it needn't wait for one. Each takes one job and is gone after it: nothing that
a job left can meet the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.opening import OneShot, open_sandbox
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Result, SandboxUnavailable

logger = logging.getLogger(__name__)
_AGAIN_S = 1.0
"""Pause after a sandbox that could not be made."""


class Pool:
    """`size` sandboxes of one policy in this process, made by a thread as they are used up.

    Any thread may run jobs; one that finds none waiting makes its own. A context manager, or `start` and `close`.
    """

    def __init__(
        self, policy: Policy | None = None, size: int = 2, make: Callable[[Policy], OneShot] = open_sandbox
    ) -> None:
        self.policy, self._size, self._make = policy or Policy(), size, make
        self._waiting: deque[OneShot] = deque()
        self._running: set[OneShot] = set()
        self._changed = threading.Condition()
        self._closed = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the first sandbox, and begin to make the others; raises SandboxUnavailable where none can be made."""
        first = self._make(self.policy)
        with self._changed:
            self._closed = False
            self._waiting.append(first)
        self._thread = threading.Thread(target=self._refill, name="sandboxes", daemon=True)
        self._thread.start()

    def run(
        self, code_or_argv: str | list[str] | tuple[str, ...], files: Mapping[str, bytes | str] | None = None
    ) -> Result:
        """Run one job in a sandbox of its own; raises as `sandbox.run` does."""
        job = Job.of(code_or_argv, files)
        job.check(self.policy)
        sandbox = self.take()
        return self.use(sandbox, job)

    async def arun(self, code_or_argv: str | list[str], files: Mapping[str, bytes | str] | None = None) -> Result:
        """`run`, beside an event loop; cancelling it kills the sandbox, and waits until it is dead."""
        job = Job.of(code_or_argv, files)
        job.check(self.policy)
        # not in the loop's own threads: jobs that run long would keep them from everybody else
        ended: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        work = _Work(self, job, ended)
        threading.Thread(target=work.run, name="sandbox-job", daemon=True).start()
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({ended})
            if not ended.cancelled():
                ended.exception()
            raise

    def take(self) -> OneShot:
        """A sandbox that waited, or else a new one; the caller uses it. Raises SandboxUnavailable."""
        while True:
            with self._changed:
                if self._closed:
                    raise SandboxUnavailable("the pool of sandboxes is closed, or was never started")
                sandbox = self._waiting.popleft() if self._waiting else None
                self._changed.notify_all()
            if sandbox is None:
                return self._make(self.policy)
            if sandbox.alive:
                return sandbox
            # one that died while it waited had no job: nothing is lost
            sandbox.close()

    def use(self, sandbox: OneShot, job: Job) -> Result:
        """Run a job in a sandbox that was taken, and end it."""
        with self._changed:
            self._running.add(sandbox)
            closed = self._closed
        try:
            if closed:
                raise SandboxUnavailable("the pool of sandboxes is closed")
            return sandbox.run(job)
        finally:
            with self._changed:
                self._running.discard(sandbox)
            sandbox.close()

    @property
    def waiting(self) -> int:
        """Sandboxes that wait for a job."""
        with self._changed:
            return len(self._waiting)

    def close(self) -> None:
        """End the sandboxes that wait, and kill those that run; a job in one of these ends as one that was killed."""
        with self._changed:
            self._closed = True
            waiting, running = list(self._waiting), list(self._running)
            self._waiting.clear()
            self._changed.notify_all()
        for sandbox in waiting:
            sandbox.close()
        for sandbox in running:
            sandbox.kill()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._size)
                if self._closed:
                    return
            try:
                made = self._make(self.policy)
            except (SandboxUnavailable, OSError) as error:
                # a job that comes meanwhile makes its own, and is told why it can't
                logger.warning("a waiting sandbox could not be made: %s", error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, _AGAIN_S)
                continue
            with self._changed:
                kept = not self._closed
                if kept:
                    self._waiting.append(made)
                    self._changed.notify_all()
            if not kept:
                made.close()


class _Work:
    """One job in a thread of its own, that can be given up from an event loop."""

    def __init__(self, pool: Pool, job: Job, ended: asyncio.Future[Result]) -> None:
        self._pool, self._job, self._ended = pool, job, ended
        self._loop = ended.get_loop()
        self._lock, self._given_up = threading.Lock(), False
        self._sandbox: OneShot | None = None

    def run(self) -> None:
        try:
            sandbox = self._pool.take()
            with self._lock:
                self._sandbox = sandbox
                given_up = self._given_up
            if given_up:
                sandbox.close()
                raise SandboxUnavailable("the job was given up before it began")
            result = self._pool.use(sandbox, self._job)
        except BaseException as error:
            self._tell(self._ended.set_exception, error)
        else:
            self._tell(self._ended.set_result, result)

    def cancel(self) -> None:
        with self._lock:
            self._given_up = True
            if self._sandbox is not None:
                self._sandbox.kill()

    def _tell(self, told: Callable[..., None], value: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(told, value)
