"""A group of Ray actors on one placement group: one process per worker, a component per role in each.

All roles in one group is colocated, a group per role is split, anything between is mixed: that is the caller's choice.
A rank that died can't rejoin a process group, so a group that lost one is rebuilt as a whole (supervisor.py).
"""

from __future__ import annotations

import os
import re
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from raysafe.errors import ResourceError, TrainingError
from raysafe.runtime import nodes
from raysafe.runtime.member import Factory, Failure, Host, Member, Whereabouts
from raysafe.runtime.placement import Layout, Pool, layout

START_TIMEOUT_S = 120.0
"""Least time that processes have to start and to make their components."""
DEATH_NOTICE_S = 5.0
"""How long a rank that lost sight of another waits for that one's death to be known."""
DETAIL_LENGTH = 240

__all__ = ["ActorGroup", "Factory", "GroupLost", "GroupSpec", "Member", "Pool"]


@dataclass(frozen=True)
class GroupSpec:
    """What a group is made of. collective: the ranks form a torch.distributed process group before factories run."""

    name: str
    pool: Pool
    roles: Mapping[str, Factory]
    collective: bool = False


class GroupLost(Exception):
    """A rank died or gave no answer in time; the group must be rebuilt. Not an error of the user's."""

    def __init__(
        self,
        group: str,
        roles: tuple[str, ...],
        rank: int,
        kind: Literal["death", "hang"],
        detail: str,
        incarnation: int = 0,
    ) -> None:
        super().__init__(group, roles, rank, kind, detail, incarnation)
        self.group, self.roles, self.rank, self.kind = group, roles, rank, kind
        self.detail, self.incarnation = detail, incarnation

    def __str__(self) -> str:
        return f"group '{self.group}' ({', '.join(self.roles)}) lost rank {self.rank}: {self.kind}: {self.detail}"


class ActorGroup:
    """One incarnation of a group. Made in steps, so that several groups may start side by side."""

    def __init__(self, spec: GroupSpec, workers: int, placement: Any, *, incarnation: int, deadline_s: float) -> None:
        """Start the processes on a placement group made by `layout(spec.pool, workers)`."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as Bundle

        self.spec, self.workers, self.placement, self.incarnation = spec, workers, placement, incarnation
        self.deadline_s = deadline_s
        self.start_s = max(deadline_s, START_TIMEOUT_S)
        self.lost: GroupLost | None = None
        self.behind: dict[int, Any] = {}
        """Answers that are no longer wanted but still being worked on, by rank."""
        self.where: list[Whereabouts] = []
        self.plan: Layout = layout(spec.pool, workers)
        pool, threads = spec.pool, max(1, int(spec.pool.cpus))
        actor = ray.remote(max_restarts=0, max_task_retries=0)(Host)
        self.actors: list[Any] = [
            actor.options(
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
                scheduling_strategy=Bundle(placement, placement_group_bundle_index=rank // self.plan.each),
            ).remote(spec.name, rank, workers, threads, incarnation, pool.gpus)
            for rank in range(workers)
        ]

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(self.spec.roles)

    def connect(self) -> None:
        """Wait for the processes and form their process group where one is asked for."""
        self.where = self.collect([a.whereabouts.remote() for a in self.actors], "start", self.start_s)
        if not self.spec.collective:
            return
        (meeting,) = self.collect([self.actors[0].open_store.remote(self.start_s)], "rendezvous", self.start_s)
        backend = self._backend()
        joined = [a.join.remote(meeting, backend, self.deadline_s) for a in self.actors]
        self.collect(joined, "joining the process group", self.start_s)

    def _backend(self) -> str:
        """NCCL where every rank has a GPU of its own, which it needs; gloo carries any tensor otherwise."""
        devices = {(where.node, gpu) for where in self.where for gpu in where.gpus}
        fake = os.environ.get("RAYSAFE_FAKE_GPUS") == "1"
        return "cpu:gloo,cuda:nccl" if len(devices) == self.workers and not fake else "gloo"

    def build(self) -> Callable[[], list[Any]]:
        """Start making the components; returns what waits for them."""
        fake = os.environ.get("RAYSAFE_FAKE_GPUS") == "1"
        roles = dict(self.spec.roles)
        refs = [actor.build.remote(roles, fake) for actor in self.actors]
        return lambda: self.collect(refs, "making its components", self.start_s)

    def submit(self, rank: int, role: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Ask one rank; returns the reference to its answer."""
        self.check()
        with storing(f"the arguments of {role}.{method}"):
            return self.actors[rank].call.remote(role, method, tuple(args), dict(kwargs))

    def submit_all(self, role: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Ask every rank, with arguments that are stored once."""
        import ray

        self.check()
        if self.workers == 1:
            return [self.submit(0, role, method, args, kwargs)]
        with storing(f"the arguments of {role}.{method}"):
            packed = ray.put((tuple(args), dict(kwargs)))
        return [actor.call_packed.remote(role, method, packed) for actor in self.actors]

    def check(self) -> None:
        """Raise GroupLost where the group is known to be lost."""
        if self.lost is not None:
            raise self.lost

    def collect(self, refs: Sequence[Any], what: str, deadline_s: float) -> list[Any]:
        """Answers by rank; `what` names the call. The first loss or error ends the wait, whoever still works."""
        import ray

        until = time.monotonic() + deadline_s
        waiting = {ref: rank for rank, ref in enumerate(refs)}
        answers: list[Any] = [None] * len(refs)
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=max(0.0, until - time.monotonic()))
            if not done:
                raise self.hung(sorted(waiting.values()), what, deadline_s)
            for ref in done:
                rank = waiting.pop(ref)
                answers[rank] = self.answer(ref, rank, what)
        return answers

    def answer(self, ref: Any, rank: int, what: str) -> Any:
        """The answer behind a ready reference; raises GroupLost, a component's RaySafeError, or TrainingError."""
        import ray
        from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError

        try:
            with storing(f"what {what} returned"):
                answer = ray.get(ref)
        except (RayActorError, ObjectLostError, OutOfMemoryError) as error:
            raise self.lose(rank, "death", self.dead().get(rank) or death_reason(str(error))) from None
        except RayTaskError as error:
            # outside the component's own code: such as an answer that can't be pickled
            why = str(error).strip().splitlines()[-1]
            raise TrainingError(f"{what} failed on rank {rank} of group '{self.spec.name}': {why}") from error
        if not isinstance(answer, Failure):
            return answer
        if answer.error is not None:
            raise answer.error
        if answer.kind == "lost":
            raise self.lose(rank, "death", f"in {what}: {answer.text}")
        if answer.kind == "collective" or (self.spec.collective and self.workers > 1):
            self._blame(rank, answer, what)
        error = TrainingError(f"{what} failed on rank {rank} of group '{self.spec.name}': {answer.text}")
        error.add_note(answer.traceback)
        raise error

    def _blame(self, rank: int, failure: Failure, what: str) -> None:
        """Raise GroupLost where another rank's death or silence explains a failure."""
        until = time.monotonic() + (DEATH_NOTICE_S if failure.kind == "collective" else 0.0)
        while True:
            dead = self.dead()
            if dead:
                other, why = next(iter(dead.items()))
                raise self.lose(other, "death", why)
            if time.monotonic() >= until:
                break
            time.sleep(0.05)
        if failure.kind == "collective":
            raise self.lose(rank, "hang", f"in {what}, waiting for other processes: {failure.text}")

    def dead(self) -> dict[int, str]:
        """Ranks whose processes or nodes are gone, and why."""
        # the actor table is private in Ray 2.60; the public State API needs the dashboard, which a local Ray has not
        from ray._private.state import state

        found = {}
        for rank, actor in enumerate(self.actors):
            entry = state.actor_table(actor._actor_id.hex())
            if not entry or entry["State"] == "DEAD":
                found[rank] = death_reason(str(entry.get("DeathCause", "")))
        usable = {node.id for node in nodes.usable()}
        for rank, where in enumerate(self.where):
            if where.node not in usable:
                found.setdefault(rank, f"its node {where.address} is gone")
        return found

    def hung(self, ranks: Sequence[int], what: str, deadline_s: float) -> GroupLost:
        named = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
        return self.lose(ranks[0], "hang", f"no answer to {what} from rank(s) {named} within {deadline_s:g} s")

    def lose(self, rank: int, kind: Literal["death", "hang"], detail: str) -> GroupLost:
        """Note the loss, once; returns what to raise."""
        if self.lost is None:
            detail = textwrap.shorten(detail, DETAIL_LENGTH, placeholder=" …")
            self.lost = GroupLost(self.spec.name, self.roles, rank, kind, detail, self.incarnation)
        return self.lost

    def held(self) -> list[tuple[str, tuple[float, float]]]:
        """Which bundle it holds on which node."""
        return [(self.where[i * self.plan.each].node, bundle) for i, bundle in enumerate(self.plan.bundles)]

    def kill(self) -> None:
        """End the processes, stopped ones too: Ray kills what doesn't leave within five seconds.

        One on this node is killed here: a local Ray that ends meanwhile would leave it behind.
        """
        import psutil
        import ray

        here = ray.get_runtime_context().get_node_id()
        for actor in self.actors:
            ray.kill(actor, no_restart=True)
        for where in self.where:
            if where.node == here:
                with suppress(psutil.Error):
                    process = psutil.Process(where.pid)
                    if any(part.startswith("ray::") for part in process.cmdline()[:1]):
                        process.kill()


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Around what puts something into the object store: raises ResourceError where that has no room."""
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError

    try:
        yield
    except (ObjectStoreFullError, OutOfDiskError) as error:
        first = str(error).strip().splitlines()[0]
        raise ResourceError(
            f"Ray's object store can't hold {what}: give its node more memory or disk for it "
            f"(`ray start --object-store-memory`, /dev/shm), or hold less at a time ({first})"
        ) from None


def death_reason(text: str) -> str:
    """The telling part of what Ray says of a dead actor."""
    text = " ".join(text.replace("\\n", " ").split())
    for pattern in (
        r"Worker exit detail: (.*?)\. Some common causes",
        r"[Tt]he actor is dead because (.*?)(?:\. |$|\")",
        r"[Tt]he actor died because (.*?)(?:\. |$|\")",
        r"error_message: \"(.*?)\"",
    ):
        found = re.search(pattern, text)
        if found and found[1]:
            return found[1].rstrip(". ")
    return text or "its process is gone"
