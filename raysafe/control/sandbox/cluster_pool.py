"""A pool of waiting sandboxes on the nodes of a Ray cluster: an actor a place, each with one-shot sandboxes of its own.

A job stays with the caller until an actor has a sandbox ready for it, so that an actor or a node that dies before takes
no job with it. What dies with a job loses it for good: the job may have begun, and code of unknown effects is not run
twice. Ray never runs anything again by itself here.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.opening import OneShot
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.pool import Pool
from raysafe.control.sandbox.result import Result, SandboxUnavailable
from raysafe.errors import ResourceError

logger = logging.getLogger(__name__)
Code = str | list[str] | tuple[str, ...]


class JobLost(ResourceError):
    """The process or node that had a job is gone; the job may have begun, and so isn't run again."""


class ClusterPool:
    """`workers` places for jobs, over all nodes. Any thread may run jobs; each waits for a place of its own."""

    def __init__(
        self,
        policy: Policy | None = None,
        workers: int = 2,
        *,
        ready: int = 1,
        address: str | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        """ready: sandboxes that wait at each place; address: of the cluster, a local Ray by default."""
        self.policy, self._workers, self._ready = policy or Policy(), workers, ready
        self._address, self._start_timeout_s = address, start_timeout_s
        self._free: queue.Queue[Any] = queue.Queue()
        self._all: set[Any] = set()
        self._busy: set[Any] = set()
        self._lock, self._closed = threading.Lock(), True

    def start(self) -> None:
        """Start the actors and their first sandboxes; raises ResourceError where there is no room for them, and
        SandboxUnavailable where a node has no isolation."""
        from raysafe.runtime.cluster import Needs, connect

        connect(self._address, needs=Needs(workers=self._workers, cpus=self.policy.cpus))
        self._closed = False
        try:
            with ThreadPoolExecutor(self._workers) as threads:
                for actor in threads.map(lambda _: self._make(), range(self._workers)):
                    self._free.put(actor)
        except BaseException:
            self.close()
            raise

    def run(self, code_or_argv: Code, files: Mapping[str, bytes | str] | None = None) -> Result:
        """Run one job wherever there is a place first; raises JobLost, and as `sandbox.run` does."""
        from ray.exceptions import RayActorError

        job = Job.of(code_or_argv, files)
        job.check(self.policy)
        while True:
            actor = self._place()
            try:
                ticket = _get(actor.reserve.remote())
            except RayActorError as gone:
                # nothing was handed over: the job is still here
                logger.warning("a place for sandboxes is gone, and is made anew: %s", type(gone).__name__)
                self._replace(actor)
                continue
            except BaseException:
                self._free.put(actor)
                raise
            try:
                with self._at_work(actor):
                    result = _get(actor.run.remote(ticket, job))
            except RayActorError as gone:
                self._replace(actor)
                raise JobLost(
                    "the process or node that had the job died; the job may have begun, so it isn't run again: see "
                    "what it did, and give it once more if that is safe"
                ) from gone
            except BaseException:
                self._free.put(actor)
                raise
            self._free.put(actor)
            return result

    def map(self, jobs: Iterable[Code]) -> Iterator[Result | JobLost]:
        """Results in the order of the jobs, as many at a time as there are places; JobLost in place of a lost one's."""

        def one(code: Code) -> Result | JobLost:
            try:
                return self.run(code)
            except JobLost as lost:
                return lost

        with ThreadPoolExecutor(self._workers) as threads:
            yield from threads.map(one, jobs)

    @property
    def working(self) -> int:
        """Places that have a job."""
        with self._lock:
            return len(self._busy)

    def nodes(self) -> list[str]:
        """Ids of the nodes that the places are on."""
        return [_get(actor.node.remote()) for actor in list(self._all)]

    def close(self) -> None:
        """End all actors, and with them their sandboxes."""
        import ray

        with self._lock:
            self._closed = True
            actors, self._all = list(self._all), set()
        for actor in actors:
            ray.kill(actor)
        # whoever waits for a place is told
        self._free.put(None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _at_work(self, actor: Any) -> Iterator[None]:
        with self._lock:
            self._busy.add(actor)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(actor)

    def _place(self) -> Any:
        actor = self._free.get()
        if actor is None or self._closed:
            self._free.put(None)
            raise SandboxUnavailable("the pool of sandboxes is closed, or was never started")
        return actor

    def _replace(self, actor: Any) -> None:
        """Another place for one that is gone; where none can be made now, a thread of its own tries again."""
        import ray

        with self._lock:
            self._all.discard(actor)
        ray.kill(actor)
        threading.Thread(target=self._make_again, name="sandbox-place", daemon=True).start()

    def _make_again(self) -> None:
        while not self._closed:
            try:
                self._free.put(self._make())
                return
            except (ResourceError, OSError) as error:
                logger.warning("a place for sandboxes could not be made anew: %s", error)

    def _make(self) -> Any:
        """A new actor with its first sandbox, on a node that answers; raises ResourceError."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        from raysafe.runtime.nodes import NODE_ID, silent

        away = silent()
        actor_class: Any = ray.remote(_Place).options(
            num_cpus=self.policy.cpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            label_selector={NODE_ID: f"!in({','.join(away)})"} if away else None,
        )
        actor = actor_class.remote(self.policy, self._ready)
        try:
            _get(actor.open.remote(), self._start_timeout_s)
            with self._lock:
                if not self._closed:
                    self._all.add(actor)
                    return actor
            raise SandboxUnavailable("the pool of sandboxes is closed")
        except GetTimeoutError:
            ray.kill(actor)
            raise ResourceError(
                f"a place for sandboxes with {self.policy.cpus:g} CPUs didn't start in {self._start_timeout_s:g} s: "
                "lower workers or the policy's cpus, or see `ray status`"
            ) from None
        except RayActorError as gone:
            raise ResourceError(f"a place for sandboxes died as it started: {type(gone).__name__}") from None
        except BaseException:
            ray.kill(actor)
            raise


class _Place:
    """An actor: one job at a time, in sandboxes that wait in its process."""

    def __init__(self, policy: Policy, ready: int) -> None:
        self._pool = Pool(policy, ready)
        self._taken: dict[int, OneShot] = {}
        self._tickets = 0

    def open(self) -> None:
        self._pool.start()

    def reserve(self) -> int:
        """Take a sandbox; the number by which `run` knows it."""
        self._tickets += 1
        self._taken[self._tickets] = self._pool.take()
        return self._tickets

    def run(self, ticket: int, job: Job) -> Result:
        return self._pool.use(self._taken.pop(ticket), job)

    def node(self) -> str:
        import ray

        return ray.get_runtime_context().get_node_id()


def _get(reference: Any, timeout_s: float | None = None) -> Any:
    """What a call returned; raises what it raised, not Ray's wrapping of it."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        raise error.cause from None
