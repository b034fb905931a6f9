"""One process of an actor group: it hosts a component per role and answers calls to them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from raysafe.errors import RaySafeError, ResourceError
from raysafe.runtime.rendezvous import Meeting, join_store, open_store

_COLLECTIVE = re.compile(
    r"gloo|NCCL|ProcessGroup|TCPStore|Connection (?:closed|reset)|Broken pipe|Timed out waiting|connectFullMesh"
)


@dataclass(frozen=True)
class Member:
    """What a component learns of where it runs."""

    group: str
    rank: int
    ranks: int
    threads: int
    """torch threads of the process."""
    device: str
    """cpu, or cuda: the one GPU that Ray shows the process, of which it may have a share."""
    incarnation: int
    """How many times the group was rebuilt before."""


Factory = Callable[[Member], Any]
"""Makes the component of a role inside the process; picklable."""


@dataclass(frozen=True)
class Whereabouts:
    """Where a process runs, for the one that controls it."""

    node: str
    address: str
    pid: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """An answer that isn't one: a component raised.

    told: an error meant for the user; collective: the other ranks couldn't be reached, which a dead or hanging one
    explains; lost: what another process held is gone; bug: any other exception.
    """

    kind: Literal["told", "collective", "lost", "bug"]
    error: RaySafeError | None
    text: str
    traceback: str


class Host:
    """The actor. One call at a time, on the process's main thread."""

    def __init__(self, group: str, rank: int, ranks: int, threads: int, incarnation: int, gpus: float) -> None:
        import torch

        torch.set_num_threads(threads)
        self.gpus = gpus
        self.device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
        self.member = Member(group, rank, ranks, threads, self.device, incarnation)
        self.parts: dict[str, Any] = {}
        self.away: set[str] = set()
        """Roles that are off the GPU."""

    def whereabouts(self) -> Whereabouts:
        import os

        import ray

        context = ray.get_runtime_context()
        gpus = tuple(str(gpu) for gpu in context.get_accelerator_ids().get("GPU", ()))
        return Whereabouts(context.get_node_id(), ray.util.get_node_ip_address(), os.getpid(), gpus)

    def open_store(self, timeout_s: float) -> Meeting | Failure:
        """Rank 0: start the rendezvous of the group."""
        return self._answer(lambda: self._open_store(timeout_s))

    def _open_store(self, timeout_s: float) -> Meeting:
        self.store, meeting = open_store(self.member.ranks, timeout_s)
        return meeting

    def join(self, meeting: Meeting, backend: str, deadline_s: float) -> Failure | None:
        """Form the process group with the other ranks."""
        return self._answer(lambda: self._join(meeting, backend, deadline_s))

    def _join(self, meeting: Meeting, backend: str, deadline_s: float) -> None:
        import torch.distributed as dist

        member = self.member
        if member.rank:
            self.store = join_store(meeting, deadline_s)
        dist.init_process_group(
            backend,
            store=self.store,
            rank=member.rank,
            world_size=member.ranks,
            timeout=timedelta(seconds=deadline_s),
        )

    def build(self, roles: Mapping[str, Factory], fake_gpus: bool) -> Failure | None:
        """Make the components, each off the GPU again before the next is made."""
        return self._answer(lambda: self._build(roles, fake_gpus))

    def _build(self, roles: Mapping[str, Factory], fake_gpus: bool) -> None:
        if self.gpus and self.device == "cpu" and not fake_gpus:
            raise ResourceError(
                f"group '{self.member.group}' has GPUs by Ray's account, but torch sees none: install torch for CUDA, "
                "or set its gpus to 0 (RAYSAFE_FAKE_GPUS=1 computes on the CPU, to try a placement out)"
            )
        for role, factory in roles.items():
            self._send_away(but=role)
            self.parts[role] = factory(self.member)

    def call(self, role: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A method of a role's component; what it returns, or a Failure."""
        return self._answer(lambda: self._call(role, method, args, kwargs))

    def call_packed(self, role: str, method: str, packed: tuple[Sequence[Any], Mapping[str, Any]]) -> Any:
        """As `call`, with arguments that all ranks share."""
        return self._answer(lambda: self._call(role, method, *packed))

    def _call(self, role: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._send_away(but=role)
        part = self.parts[role]
        if role in self.away:
            part.onload()
            self.away.discard(role)
        return getattr(part, method)(*args, **kwargs)

    def _send_away(self, but: str) -> None:
        """Roles that share the GPU make room for one of them, where they can."""
        if not self.gpus:
            return
        leaving = [
            role
            for role, part in self.parts.items()
            if role != but and role not in self.away and hasattr(part, "offload") and hasattr(part, "onload")
        ]
        for role in leaving:
            self.parts[role].offload()
            self.away.add(role)
        if leaving and self.device == "cuda":
            import torch

            # what left stays reserved otherwise, and other processes may have a share of this GPU
            torch.cuda.empty_cache()

    def _answer(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # whatever a component raises is told to the one that controls it
            return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """What an exception of a component means to the group."""
    import torch.distributed as dist
    from ray.exceptions import RayError

    trace = "".join(traceback.format_exception(error))
    place = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    text = traceback.format_exception_only(error)[-1].strip()
    if place is not None:
        text += f" ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"
    if isinstance(error, RaySafeError):
        return Failure("told", error, str(error), trace)
    if isinstance(error, RayError):
        return Failure("lost", None, text, trace)
    if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _COLLECTIVE.search(str(error))):
        return Failure("collective", None, text, trace)
    return Failure("bug", None, text, trace)
