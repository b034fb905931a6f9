"""How the driver calls a role: on every rank, on one, or in chunks; at once or later; never without a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from raysafe.runtime.group import ActorGroup
from raysafe.runtime.member import Whereabouts
from raysafe.runtime.spreading import spread


class Pending:
    """Answers that are being worked on."""

    def __init__(self, wait: Callable[[], list[Any]]) -> None:
        self._wait = wait

    def result(self) -> list[Any]:
        """The answers; waits for them no longer than the call's deadline, counted from here."""
        return self._wait()


class RoleHandle:
    """A role, wherever its group's current incarnation runs.

    Any wait raises GroupLost where a rank died or the deadline passed, a component's own RaySafeError as it is, and
    TrainingError for any other exception of a component. `deadline_s` overrides the supervisor's for one call.
    Arrays among arguments and answers are read-only views of shared memory.
    """

    def __init__(self, role: str, group: Callable[[], ActorGroup]) -> None:
        self.role, self._group = role, group

    @property
    def ranks(self) -> int:
        return self._group().workers

    @property
    def where(self) -> list[Whereabouts]:
        """Node, process and GPUs of each rank."""
        return list(self._group().where)

    def call(self, method: str, *args: Any, deadline_s: float | None = None, **kwargs: Any) -> list[Any]:
        """The same call on every rank; answers by rank."""
        return self.start(method, *args, deadline_s=deadline_s, **kwargs).result()

    def start(self, method: str, *args: Any, deadline_s: float | None = None, **kwargs: Any) -> Pending:
        """As `call`, without waiting."""
        group = self._group()
        return self._pending(group, group.submit_all(self.role, method, args, kwargs), method, deadline_s)

    def scatter(
        self, method: str, per_rank: Sequence[tuple[Any, ...]], *, deadline_s: float | None = None
    ) -> list[Any]:
        """A call on every rank with arguments of its own; answers by rank."""
        return self.start_scatter(method, per_rank, deadline_s=deadline_s).result()

    def start_scatter(
        self, method: str, per_rank: Sequence[tuple[Any, ...]], *, deadline_s: float | None = None
    ) -> Pending:
        """As `scatter`, without waiting."""
        group = self._group()
        if len(per_rank) != group.workers:
            raise ValueError(f"{self.role}.{method} has {group.workers} ranks, got arguments for {len(per_rank)}")
        refs = [group.submit(rank, self.role, method, args, {}) for rank, args in enumerate(per_rank)]
        return self._pending(group, refs, method, deadline_s)

    def first(self, method: str, *args: Any, deadline_s: float | None = None, **kwargs: Any) -> Any:
        """A call on rank 0 alone."""
        group = self._group()
        ref = group.submit(0, self.role, method, args, kwargs)
        return self._pending(group, [ref], method, deadline_s).result()[0]

    def spread(
        self,
        method: str,
        chunks: Sequence[tuple[Any, ...]],
        *,
        straggler_factor: float | None = None,
        deadline_s: float | None = None,
    ) -> list[Any]:
        """A call per chunk of arguments, each on a rank that is free; answers in the order of the chunks.

        With a factor, a chunk that takes longer than so many medians of the finished ones also goes to an idle rank,
        and the first answer counts: chunks must be deterministic. The deadline is between two answers.
        """
        group = self._group()
        seconds = deadline_s or group.deadline_s
        return spread(group, self.role, method, chunks, factor=straggler_factor, deadline_s=seconds)

    def start_spread(
        self,
        method: str,
        chunks: Sequence[tuple[Any, ...]],
        *,
        straggler_factor: float | None = None,
        deadline_s: float | None = None,
    ) -> Pending:
        """As `spread`, from a thread that hands out the chunks meanwhile."""
        answers: list[Any] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                answers.extend(self.spread(method, chunks, straggler_factor=straggler_factor, deadline_s=deadline_s))
            except BaseException as error:  # raised again where the result is asked for
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=work, name=f"spread-{self.role}", daemon=True).start()

        def wait() -> list[Any]:
            done.wait()
            if errors:
                raise errors[0]
            return list(answers)

        return Pending(wait)

    def _pending(self, group: ActorGroup, refs: Sequence[Any], method: str, deadline_s: float | None) -> Pending:
        seconds = deadline_s or group.deadline_s
        return Pending(lambda: group.collect(refs, f"{self.role}.{method}", seconds))
