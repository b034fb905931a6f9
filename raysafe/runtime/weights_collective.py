"""Moving weights by broadcast between a trainer's rank 0 and engines, past the object store.

The ends form a process group of their own, so the trainer's default group is untouched: gloo on CPUs, NCCL where every
end has a GPU. The NCCL half has not been run, only its gloo twin: both share all code but the group's constructor.
An engine in the trainer's own process can't take part: use the object store there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor

from raysafe.runtime.rendezvous import Meeting, join_store, open_store
from raysafe.runtime.weights import SHARD_BYTES, DamagedWeights, Updatable, VersionedEngine, split

if TYPE_CHECKING:
    from raysafe.runtime.calls import RoleHandle

Transport = Literal["object_store", "collective"]
_ALIGNED = 16


class Channel:
    """One end: place 0 sends, all others receive, always together and in the same order.

    Raises RuntimeError where another end is gone or silent for `timeout_s`.
    """

    def __init__(self, store: Any, place: int, ends: int, *, device: str, timeout_s: float) -> None:
        self.place, self.device = place, torch.device(device)
        timeout = timedelta(seconds=timeout_s)
        prefixed = dist.PrefixStore("weights", store)  # pyright: ignore[reportPrivateImportUsage]
        if self.device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = timeout
            self.group: Any = dist.ProcessGroupNCCL(prefixed, place, ends, options)
        else:
            self.group = dist.ProcessGroupGloo(prefixed, place, ends, timeout)
        self.store = store

    def send(self, weights: Mapping[str, Tensor], version: int, *, bucket_bytes: int = SHARD_BYTES) -> None:
        """Broadcast the weights in flat buckets, each followed by its check; one bucket of extra memory."""
        tensors = {name: tensor.detach() for name, tensor in weights.items()}
        entries = [
            {"name": name, "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "bytes": t.nbytes}
            for name, t in tensors.items()
        ]
        header = json.dumps({"version": version, "bucket_bytes": bucket_bytes, "tensors": entries}).encode()
        self._broadcast(torch.tensor([len(header)], device=self.device))
        self._broadcast(torch.frombuffer(bytearray(header), dtype=torch.uint8).to(self.device))
        for names, offsets, size in _buckets({e["name"]: e["bytes"] for e in entries}, bucket_bytes):
            flat = torch.zeros(size, dtype=torch.uint8, device=self.device)
            for name, offset in zip(names, offsets, strict=True):
                source = tensors[name].to(self.device).contiguous().reshape(-1)
                flat[offset : offset + source.nbytes].view(source.dtype).copy_(source)
            self._broadcast(flat)
            self._broadcast(torch.tensor([check(flat)], device=self.device))

    def receive(self) -> tuple[int, dict[str, Tensor]]:
        """The version and tensors that place 0 sends, in memory of their own; raises DamagedWeights."""
        length = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._broadcast(length)
        raw = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        self._broadcast(raw)
        header = json.loads(bytes(raw.cpu().numpy()))
        entries = {entry["name"]: entry for entry in header["tensors"]}
        received: dict[str, Tensor] = {}
        damaged: list[str] = []
        sizes = {name: entry["bytes"] for name, entry in entries.items()}
        for names, offsets, size in _buckets(sizes, header["bucket_bytes"]):
            flat = torch.empty(size, dtype=torch.uint8, device=self.device)
            expected = torch.zeros(1, dtype=torch.int64, device=self.device)
            self._broadcast(flat)
            self._broadcast(expected)
            if check(flat) != int(expected):
                damaged.append(names[0])
            for name, offset in zip(names, offsets, strict=True):
                entry = entries[name]
                part = flat[offset : offset + entry["bytes"]]
                received[name] = part.view(getattr(torch, entry["dtype"])).reshape(entry["shape"])
        if damaged:
            raise DamagedWeights(
                f"weights version {header['version']} arrived damaged (a bucket's check differs, from {damaged[0]} "
                "on): send it again; if it happens twice, check the node's memory and network"
            )
        return header["version"], received

    def _broadcast(self, tensor: Tensor) -> None:
        options = dist.BroadcastOptions()
        options.rootRank = 0
        self.group.broadcast([tensor], options).wait()


class Sender:
    """Mixin of the trainer's component; rank 0 calls `self.channel.send(weights, version)`."""

    channel: Channel

    def channel_listen(self, ends: int, timeout_s: float) -> Meeting:
        """Open the meeting point, on this process's node."""
        self._store, meeting = open_store(ends, timeout_s)
        return meeting

    def channel_join(self, meeting: Meeting, device: str, timeout_s: float) -> None:
        self.channel = Channel(self._store, 0, meeting.ends, device=device, timeout_s=timeout_s)


class Receiver:
    """Mixin of an engine's component; calls `take(self.channel, engine)` while the trainer sends."""

    channel: Channel

    def channel_join(self, meeting: Meeting, place: int, device: str, timeout_s: float) -> None:
        self.channel = Channel(join_store(meeting, timeout_s), place, meeting.ends, device=device, timeout_s=timeout_s)


def open_channel(trainer: RoleHandle, engines: RoleHandle, *, device: str, timeout_s: float) -> None:
    """In the driver: connect a Sender's rank 0 with all ranks of a Receiver; again after a rebuild of either."""
    meeting = trainer.first("channel_listen", engines.ranks + 1, timeout_s)
    places = [(meeting, rank + 1, device, timeout_s) for rank in range(engines.ranks)]
    joining = engines.start_scatter("channel_join", places)
    trainer.first("channel_join", meeting, device, timeout_s)
    joining.result()


def take(channel: Channel, engine: VersionedEngine) -> int:
    """Replace the engine's weights by what the channel brings; returns their version."""
    engine.version = None
    version, weights = channel.receive()
    updatable: Updatable = engine.engine
    updatable.update_weights(weights)
    engine.version = version
    return version


def check(flat_N: Tensor) -> int:
    """A 64-bit check of bytes whose number divides by eight: xxh3 on the CPU.

    On a GPU a weighted sum of 32-bit words modulo 2^64, without a way to the host: it finds words that are changed or
    swapped, not ones that somebody forged.
    """
    if flat_N.device.type == "cpu":
        return xxhash.xxh3_64_intdigest(flat_N.numpy().data) - 2**63
    return weighted_sum(flat_N)


def weighted_sum(flat_N: Tensor) -> int:
    words = flat_N.view(torch.int32).to(torch.int64)
    weights = torch.arange(1, 2 * words.numel(), 2, device=flat_N.device)
    return int((words * weights).sum())


def _buckets(sizes: Mapping[str, int], bucket_bytes: int) -> list[tuple[list[str], list[int], int]]:
    """Names, their offsets and the bytes of each bucket; every tensor begins at a multiple of 16 bytes."""
    padded = {name: -(-size // _ALIGNED) * _ALIGNED for name, size in sizes.items()}
    buckets = []
    for names in split(padded, bucket_bytes):
        offsets, filled = [], 0
        for name in names:
            offsets.append(filled)
            filled += padded[name]
        buckets.append((names, offsets, max(filled, _ALIGNED)))
    return buckets
