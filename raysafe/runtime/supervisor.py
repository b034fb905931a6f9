"""Places groups of actors, and rebuilds those that lose a process, a node or their answer: a bounded number of times.

What a rebuilt group knew is gone: the caller loads its last checkpoint into it and goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from raysafe.errors import ConfigError, ResourceError, TrainingError
from raysafe.runtime import nodes
from raysafe.runtime.calls import RoleHandle
from raysafe.runtime.cluster import Node, connect, preflight_pools, refuse_pools
from raysafe.runtime.group import ActorGroup, GroupLost, GroupSpec
from raysafe.runtime.placement import Pool, largest, layout

__all__ = ["Supervisor", "preflight_pools"]


@dataclass
class _State:
    """A group as it stands."""

    spec: GroupSpec
    workers: int
    incarnation: int = 0
    placement: Any = None
    group: ActorGroup | None = None


class Supervisor:
    """Context manager around the groups of a job: all of them stand inside it, none is left after it."""

    def __init__(
        self,
        specs: Sequence[GroupSpec],
        *,
        note: Callable[..., None],
        deadline_s: float,
        max_restarts: int = 3,
        place_timeout_s: float = 60.0,
        address: str | None = None,
    ) -> None:
        """note: takes an event's name and fields, as `Run.event`. deadline_s: how long any answer may take.

        Raises ConfigError where two groups have one name, or two of them the same role.
        """
        self._note, self.deadline_s, self.max_restarts = note, deadline_s, max_restarts
        self.place_timeout_s, self.address = place_timeout_s, address
        self.restarts = 0
        self._states: dict[str, _State] = {}
        self._group_of: dict[str, str] = {}
        for spec in specs:
            if spec.name in self._states:
                raise ConfigError(f"two groups are named '{spec.name}': give each a name of its own")
            self._states[spec.name] = _State(spec, spec.pool.workers)
            for role in spec.roles:
                if role in self._group_of:
                    raise ConfigError(f"role '{role}' is in the groups '{self._group_of[role]}' and '{spec.name}'")
                self._group_of[role] = spec.name

    def __enter__(self) -> Self:
        """Place all groups and make their components.

        Raises ResourceError where they don't fit, and whatever RaySafeError a factory raises; nothing stands then.
        """
        pools = {name: state.spec.pool for name, state in self._states.items()}
        preflight_pools(self.address, pools)
        connect(self.address)
        preflight_pools(None, pools)
        from rich.console import Console

        workers = sum(pool.workers for pool in pools.values())
        try:
            with Console(stderr=True).status(f"starting {workers} process(es) of {', '.join(pools)}"):
                try:
                    self._rebuild(list(self._states))
                except GroupLost as lost:
                    self.recover(lost)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def role(self, name: str) -> RoleHandle:
        """A handle that stays valid when the role's group is rebuilt."""
        if name not in self._group_of:
            raise ConfigError(f"no group has the role '{name}'; there are {', '.join(sorted(self._group_of))}")
        return RoleHandle(name, lambda: self._current(self._group_of[name]))

    def recover(self, lost: GroupLost) -> frozenset[str]:
        """Rebuild the lost group and every other that has lost a process; returns the roles that start anew.

        None does where `lost` tells of an incarnation that was rebuilt since. Raises TrainingError when groups were
        lost more often than `max_restarts`, ResourceError when what is left of the cluster can't hold them.
        """
        state = self._states[lost.group]
        if lost.incarnation < state.incarnation:
            return frozenset()
        names: list[str] = []
        while True:
            started = time.monotonic()
            self._tell(lost)
            if lost.group not in names:
                names.append(lost.group)
            self._add_lost(names)
            self.restarts += 1
            if self.restarts > self.max_restarts:
                raise TrainingError(
                    f"group '{lost.group}' was lost after {self.max_restarts} rebuild(s), which is max_restarts; "
                    f"the last time by {lost.kind} of rank {lost.rank}: {lost.detail}"
                )
            try:
                self._rebuild(names)
                # a death at the same moment may not have been known before
                while late := self._add_lost(names):
                    self._rebuild(late)
            except GroupLost as again:
                lost = again
                continue
            seconds = round(time.monotonic() - started, 3)
            for name in names:
                workers = self._states[name].workers
                self._note("rebuilt", group=name, workers=workers, seconds=seconds, attempt=self.restarts)
            return frozenset(role for name in names for role in self._states[name].spec.roles)

    def close(self) -> None:
        """End all processes and give back their places."""
        for state in self._states.values():
            self._end(state)
            self._give_back(state)

    def _current(self, name: str) -> ActorGroup:
        group = self._states[name].group
        if group is None:
            raise TrainingError(f"group '{name}' doesn't stand: it is used outside its supervisor, or wasn't rebuilt")
        return group

    def _tell(self, lost: GroupLost) -> None:
        self._note("lost", group=lost.group, roles=list(lost.roles), rank=lost.rank, kind=lost.kind, detail=lost.detail)

    def _add_lost(self, names: list[str]) -> list[str]:
        """Tell of other groups that are lost, and add their names; returns those."""
        others = self._also_lost(names)
        for other in others:
            self._tell(other)
            names.append(other.group)
        return [other.group for other in others]

    def _also_lost(self, known: Iterable[str]) -> list[GroupLost]:
        """Groups that have lost a process or its node, though nobody has called them since."""
        found = []
        for name, state in self._states.items():
            group = state.group
            if name in known or group is None:
                continue
            if group.lost is not None:
                found.append(group.lost)
            elif dead := group.dead():
                rank, why = next(iter(dead.items()))
                found.append(group.lose(rank, "death", why))
        return found

    def _rebuild(self, names: Sequence[str]) -> None:
        """End what is left of these groups, place them and make their components; may raise GroupLost again."""
        for name in names:
            self._end(self._states[name])
        self._place(names)
        groups = []
        for name in names:
            state = self._states[name]
            state.group = ActorGroup(
                state.spec,
                state.workers,
                state.placement,
                incarnation=state.incarnation,
                deadline_s=self.deadline_s,
            )
            groups.append(state.group)
        for group in groups:
            group.connect()
        for wait in [group.build() for group in groups]:
            wait()

    def _end(self, state: _State) -> None:
        if state.group is not None:
            state.group.kill()
            state.group, state.incarnation = None, state.incarnation + 1

    def _give_back(self, state: _State) -> None:
        import ray

        if state.placement is not None:
            ray.util.remove_placement_group(state.placement)
            state.placement = None

    def _place(self, names: Sequence[str]) -> None:
        """A placement for each: in full where that fits or may fit soon, else as large as the cluster allows."""
        pools = {name: self._states[name].spec.pool for name in names}
        until = time.monotonic() + self.place_timeout_s
        full = {name: pool.workers for name, pool in pools.items()}
        offered, sizes = self._fitting(pools)
        if sizes != full and nodes.may_hold(pools, offered, self._held(names)):
            if self._placed(full, offered, until):
                return
            until = time.monotonic() + self.place_timeout_s
            offered, sizes = self._fitting(pools)
        while sizes is None and time.monotonic() < until:
            # a node that was lost may come back: its pod or machine starts again
            time.sleep(0.5)
            offered, sizes = self._fitting(pools)
        if sizes is None:
            raise self._refusal(pools, offered)
        if self._placed(sizes, offered, until):
            return
        # the nodes are large enough, but others use them: perhaps a smaller group finds room between those
        now_free = largest(pools, nodes.free(offered))
        if now_free in (None, sizes) or not self._placed(now_free, offered, time.monotonic() + self.place_timeout_s):
            raise ResourceError(
                f"the cluster gave no place to {', '.join(f'{n} ({w} workers)' for n, w in sizes.items())} within "
                f"{self.place_timeout_s:g} s: other jobs use its nodes, or nodes that were to come did not; wait for "
                "them, lower the workers, or set min_workers"
            )

    def _fitting(self, pools: dict[str, Pool]) -> tuple[list[Node], dict[str, int] | None]:
        offered = nodes.usable()
        if os.environ.get("RAYSAFE_PREFLIGHT") == "0":
            return offered, {name: pool.workers for name, pool in pools.items()}
        return offered, largest(pools, offered, self._held(pools))

    def _held(self, but: Iterable[str]) -> list[tuple[str, tuple[float, float]]]:
        standing = [s.group for name, s in self._states.items() if name not in but and s.group is not None]
        return [held for group in standing for held in group.held()]

    def _refusal(self, pools: dict[str, Pool], offered: list[Node]) -> ResourceError:
        smallest = {}
        for name, pool in pools.items():
            workers = pool.sizes[-1]
            standing = pool.nodes and workers * pool.nodes // pool.workers
            smallest[name] = pool.model_copy(update={"workers": workers, "nodes": standing})
        held = {name: s.spec.pool for name, s in self._states.items() if name not in pools and s.group is not None}
        return refuse_pools(smallest | held, next(iter(pools)), offered, "what is left of the cluster")

    def _placed(self, sizes: dict[str, int], offered: list[Node], until: float) -> bool:
        """Whether all found their place until then; those that have a good one of this size keep it."""
        usable = {node.id for node in offered}
        for name, workers in sizes.items():
            state = self._states[name]
            if state.placement is not None and not (state.workers == workers and nodes.stands(state.placement, usable)):
                self._give_back(state)
            state.workers = workers
            if state.placement is None:
                state.placement = nodes.ask(layout(state.spec.pool, workers), state.spec.pool.labels)
        waiting = [self._states[name].placement for name in sizes]
        while not all(nodes.stands(placement, None) for placement in waiting):
            if time.monotonic() >= until:
                for name in sizes:
                    self._give_back(self._states[name])
                return False
            time.sleep(0.02)
        return True
