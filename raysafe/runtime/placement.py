"""Where pools of processes go: what each asks for, which nodes can hold it, and how small a lost one may come back.

Everything here is arithmetic on descriptions of nodes; supervisor.py asks Ray for what is planned here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysafe.config import Config

if TYPE_CHECKING:
    from raysafe.runtime.cluster import Node

SLACK = 1e-6
"""Shares of a GPU add up to one in floating point only nearly."""
_VALUE = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"(?P<no>!?)(?:in\((?P<many>{_VALUE}(?:,{_VALUE})*)\)|(?P<one>{_VALUE}))")


class Pool(Config):
    """A pool of processes, one Ray actor each, and where they may run."""

    workers: int = Field(default=1, ge=1, description="Processes of the pool.")
    cpus: float = Field(default=1, gt=0, description="CPUs per process; also its torch threads, in whole numbers.")
    gpus: float = Field(
        default=0, ge=0, le=1, description="GPUs per process: 0, 1, or a share of one that several processes use."
    )
    nodes: int | None = Field(
        default=None, ge=1, description="Pack the pool onto exactly this many nodes, evenly; anywhere by default."
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Node labels to ask for: key to value, !value, in(a,b) or !in(a,b)."
    )
    min_workers: int | None = Field(
        default=None, ge=1, description="Go on with so few processes where nodes are lost; all of them by default."
    )

    @field_validator("labels")
    @classmethod
    def _selectors(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            if not key or not _SELECTOR.fullmatch(value):
                raise ValueError(f"label '{key}' must ask for value, !value, in(a,b) or !in(a,b), not for '{value}'")
        return labels

    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.nodes is not None and self.workers % self.nodes:
            raise ValueError(f"workers ({self.workers}) must divide evenly onto nodes ({self.nodes})")
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers ({self.min_workers}) must be at most workers ({self.workers})")
        return self

    @property
    def sizes(self) -> list[int]:
        """Numbers of workers that it may run with, the largest first; whole nodes where `nodes` is set."""
        step = 1 if self.nodes is None else self.workers // self.nodes
        return list(range(self.workers, (self.min_workers or self.workers) - 1, -step))


@dataclass(frozen=True)
class Layout:
    """The bundles of a placement group; each holds `each` workers."""

    strategy: Literal["PACK", "STRICT_SPREAD"]
    bundles: tuple[tuple[float, float], ...]
    """CPUs and GPUs of each."""
    each: int


def layout(pool: Pool, workers: int) -> Layout:
    """A bundle per worker, or, where `nodes` is set, one per node: bundles of one node each that no two share."""
    if pool.nodes is None:
        return Layout("PACK", ((pool.cpus, pool.gpus),) * workers, 1)
    each = pool.workers // pool.nodes
    bundle = (round(each * pool.cpus, 4), shared_gpus(each, pool.gpus))
    return Layout("STRICT_SPREAD", (bundle,) * (workers // each), each)


def shared_gpus(workers: int, share: float) -> float:
    """GPUs that hold so many workers of one share each: no share is split, and more than one GPU is whole GPUs."""
    if not share:
        return 0.0
    on_one = int(1 / share + SLACK)
    return round(workers * share, 4) if workers <= on_one else float(math.ceil(workers / on_one))


def matches(selectors: Mapping[str, str], labels: Mapping[str, str] | None) -> bool:
    """Whether a node's labels are what Ray's selectors ask for; labels that aren't known yet may be."""
    if labels is None:
        return True
    for key, value in selectors.items():
        found = _SELECTOR.fullmatch(value)
        assert found, value
        wanted = (found["many"] or found["one"]).split(",")
        # as in Ray: a node without the label is not one of any values
        if (labels.get(key) in wanted) == bool(found["no"]):
            return False
    return True


class Room:
    """What is free on one node while bundles are packed onto it."""

    def __init__(self, node: Node) -> None:
        self.node, self.cpus = node, node.cpus
        self.gpus = [1.0] * int(node.gpus + SLACK)

    def take(self, bundle: tuple[float, float]) -> bool:
        """Take a bundle's CPUs and GPUs where there is room; a share comes from the fullest GPU that has it."""
        cpus, gpus = bundle
        size = min(gpus, 1.0)
        devices = sorted((i for i, free in enumerate(self.gpus) if free + SLACK >= size), key=lambda i: self.gpus[i])
        wanted = math.ceil(gpus - SLACK) if gpus else 0
        if self.cpus + SLACK < cpus or len(devices) < wanted:
            return False
        self.cpus -= cpus
        for device in devices[:wanted]:
            self.gpus[device] -= size
        return True


def rooms_of(nodes: Iterable[Node], most: int) -> list[Room]:
    """A room for each node; of those still to start no more than `most` of a kind."""
    return [Room(node) for node in nodes for _ in range(min(node.count, most))]


def pack(asked: Mapping[str, tuple[Pool, int]], rooms: Sequence[Room]) -> str | None:
    """Pack pools with their numbers of workers; returns the name of the first that finds no place, None if all do.

    First fit over decreasing demands: pools that are choosy about nodes, then GPUs, then CPUs. Takes from the rooms.
    """
    for name in sorted(asked, key=lambda name: _demand(*asked[name]), reverse=True):
        pool, workers = asked[name]
        plan = layout(pool, workers)
        # what needs no GPU goes where none is, while there is room
        fitting = [room for room in rooms if matches(pool.labels, room.node.labels)]
        fitting.sort(key=lambda room: bool(room.gpus) if not pool.gpus else False)
        used: set[int] = set()
        for bundle in plan.bundles:
            for index, room in enumerate(fitting):
                if (plan.strategy == "PACK" or index not in used) and room.take(bundle):
                    used.add(index)
                    break
            else:
                return name
    return None


def _demand(pool: Pool, workers: int) -> tuple[float, ...]:
    bundle = layout(pool, workers).bundles[0]
    return (bool(pool.labels), pool.nodes is not None, bundle[1], bundle[0], workers)


def smaller(pools: Mapping[str, Pool]) -> Iterator[dict[str, int]]:
    """Numbers of workers to try, all in full first; then always the pool that has lost least gives some up."""
    left = {name: pool.sizes for name, pool in pools.items()}
    while True:
        yield {name: sizes[0] for name, sizes in left.items()}
        givers = [name for name, sizes in left.items() if len(sizes) > 1]
        if not givers:
            return
        giver = max(givers, key=lambda name: left[name][0] / pools[name].workers)
        left[giver] = left[giver][1:]


def largest(
    pools: Mapping[str, Pool], free: Sequence[Node], held: Sequence[tuple[str, tuple[float, float]]] = ()
) -> dict[str, int] | None:
    """The largest numbers of workers that fit; None where not even the smallest do.

    held: node ids and bundles of pools that stay where they are.
    """
    for sizes in smaller(pools):
        rooms = rooms_of(free, sum(sizes.values()))
        by_id = {room.node.id: room for room in rooms if room.node.id}
        for node, bundle in held:
            if node in by_id:
                by_id[node].take(bundle)
        if pack({name: (pools[name], size) for name, size in sizes.items()}, rooms) is None:
            return sizes
    return None
