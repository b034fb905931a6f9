"""Which roles of a training fit onto which GPUs: arithmetic on bytes, the same whatever the roles hold.

A role says what it takes on each GPU when it has so many of them. Colocated, all roles share every GPU and those that
are idle wait in the host's memory, so that a GPU needs room for one at a time; split, each role has GPUs of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Sharding = Literal["ddp", "fsdp"]
RESERVED = 0.08
"""Share of a GPU that CUDA, NCCL and fragmentation take, by rule of thumb."""


class Memory(NamedTuple):
    """Bytes on each GPU of a role. idle: what stays there while the role waits; moves: whether the rest leaves it."""

    weights: float
    gradients: float = 0.0
    optimiser: float = 0.0
    kv_cache: float = 0.0
    activations: float = 0.0
    idle: float = 0.0
    moves: bool = True

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimiser + self.kv_cache + self.activations

    @property
    def kept(self) -> float:
        """What moves into the host's memory while the role is idle."""
        return self.weights + self.optimiser if self.moves else 0.0

    def staying(self) -> Memory:
        """The same for a role that can't leave the GPU: its weights and moments stay while it is idle."""
        return self._replace(idle=self.idle + self.weights + self.optimiser, moves=False)


@dataclass(frozen=True)
class Role:
    """What a role takes on each of N GPUs, by sharding; a role that isn't trained has the one choice `None`."""

    name: str
    choices: Mapping[Sharding | None, Callable[[int], Memory]]
    grows: bool = False
    """Whether GPUs that are left over make it faster."""


@dataclass(frozen=True)
class Seat:
    """A role's place: so many GPUs, how its module is spread over them, and the bytes on each."""

    role: str
    gpus: int
    sharding: Sharding | None
    memory: Memory


@dataclass(frozen=True)
class Placement:
    """Where roles go. problems: what doesn't fit, a sentence each; none where all do."""

    kind: Literal["colocated", "split"]
    seats: tuple[Seat, ...]
    problems: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.problems

    @property
    def peak(self) -> float:
        """The most bytes that a GPU holds."""
        return max(seat.memory.total + self.others(seat) for seat in self.seats)

    def others(self, seat: Seat) -> float:
        """Bytes that the idle roles leave on a GPU where this one is at work."""
        if self.kind == "split":
            return 0.0
        return sum(other.memory.idle for other in self.seats if other is not seat)

    @property
    def host(self) -> float:
        """Bytes of the host's memory for each GPU, where idle roles wait in it."""
        if self.kind == "split" or len(self.seats) == 1:
            return 0.0
        kept = [seat.memory.kept for seat in self.seats]
        return sum(kept) - min(kept)


def usable(gpu_bytes: float) -> float:
    return gpu_bytes * (1 - RESERVED)


def colocated(roles: Sequence[Role], gpus: int, gpu_bytes: float) -> Placement:
    """All roles on every GPU; copies of what is trained where they fit, shards where not."""
    best: Placement | None = None
    for sharding in _shardings(roles):
        seats = tuple(_seat(role, gpus, sharding) for role in roles)
        placement = Placement("colocated", seats)
        if placement.peak <= usable(gpu_bytes):
            return placement
        if best is None or placement.peak < best.peak:
            best = placement
    assert best is not None
    problems = tuple(
        _too_much(seat, best.others(seat), gpu_bytes)
        for seat in best.seats
        if seat.memory.total + best.others(seat) > usable(gpu_bytes)
    )
    return Placement("colocated", best.seats, problems)


def split(roles: Sequence[Role], gpus: int, gpu_bytes: float) -> Placement:
    """The fewest GPUs that hold each role; what is left goes half to generation, half to what is trained."""
    seats = {role.name: _smallest(role, gpus, gpu_bytes) for role in roles}
    problems = [_too_much(s, 0.0, gpu_bytes) for s in seats.values() if s.memory.total > usable(gpu_bytes)]
    wanted = sum(seat.gpus for seat in seats.values())
    if not problems and wanted > gpus:
        each = ", ".join(f"{seat.role} {seat.gpus}" for seat in seats.values())
        problems.append(f"roles with GPUs of their own need {wanted} ({each}), there are {gpus}")
    if problems:
        return Placement("split", tuple(seats.values()), tuple(problems))
    growing = [role for role in roles if role.grows]
    trained = [role for role in growing if None not in role.choices]
    others = [role for role in growing if None in role.choices]
    left = gpus - wanted
    shares = {role.name: 0 for role in growing}
    halves = (others, left - left // 2), (trained, left // 2)
    if not others or not trained:
        halves = ((growing, left),)
    for group, count in halves:
        for turn in range(count if group else 0):
            shares[group[turn % len(group)].name] += 1
    for role in growing:
        held = seats[role.name].gpus + shares[role.name]
        fitting = (_seat(role, held, sharding) for sharding in role.choices)
        seats[role.name] = next(s for s in fitting if s.memory.total <= usable(gpu_bytes))
    return Placement("split", tuple(seats.values()))


def _shardings(roles: Sequence[Role]) -> list[Sharding | None]:
    trained = [role for role in roles if None not in role.choices]
    return list(trained[0].choices) if trained else [None]


def _seat(role: Role, gpus: int, sharding: Sharding | None) -> Seat:
    chosen = sharding if sharding in role.choices else None
    return Seat(role.name, gpus, chosen, role.choices[chosen](gpus))


def _smallest(role: Role, gpus: int, gpu_bytes: float) -> Seat:
    """The role on the fewest GPUs that hold it; on all of them, in the smallest form, where none do."""
    for count in range(1, gpus + 1):
        for sharding in role.choices:
            seat = _seat(role, count, sharding)
            if seat.memory.total <= usable(gpu_bytes):
                return seat
    return min((_seat(role, gpus, sharding) for sharding in role.choices), key=lambda seat: seat.memory.total)


def _too_much(seat: Seat, idle: float, gpu_bytes: float) -> str:
    memory = seat.memory
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "the optimiser": memory.optimiser,
        "the key/value cache": memory.kv_cache,
        "activations": memory.activations,
        "what idle roles leave there": idle,
    }
    largest = max(parts, key=lambda name: parts[name])
    return (
        f"{seat.role} takes {gigabytes(memory.total + idle)}, of which {gigabytes(parts[largest])} are {largest}; "
        f"a GPU has {gigabytes(usable(gpu_bytes))} to use"
    )


def gigabytes(size: float) -> str:
    """Bytes as decimal gigabytes."""
    return f"{size / 1e9:.1f} GB" if size >= 5e7 or size == 0 else f"{size / 1e6:.1f} MB"
