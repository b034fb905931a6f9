"""Moving weights from a trainer to engines through Ray's object store: sharded, versioned, checksummed.

A shard is one object in shared memory. Engines on the trainer's node read it in place; other nodes fetch each shard
once, from whichever node has it. Where both ends have GPUs, weights_collective.py moves them without the store.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import xxhash
from torch import Tensor

from raysafe.errors import TrainingError
from raysafe.runtime.group import storing

if TYPE_CHECKING:
    from ray import ObjectRef

SHARD_BYTES = 32 << 20
_CARRIERS = {1: (torch.uint8, np.uint8), 2: (torch.uint16, np.uint16), 4: (torch.uint32, np.uint32)}
"""By bytes: what carries a dtype that numpy doesn't know, such as bfloat16."""


class StaleWeights(TrainingError):
    """An engine's weights are of another version than the one asked for."""


class DamagedWeights(TrainingError):
    """Weights arrived otherwise than they were sent."""


@dataclass(frozen=True)
class Shard:
    """Some of the tensors, in the order of the names. `ref` holds their arrays."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    """torch's names of them, as bfloat16."""
    shapes: tuple[tuple[int, ...], ...]
    checksum: str
    """xxh3_128 of dtypes, shapes, names and bytes."""
    ref: ObjectRef[list[np.ndarray]]


@dataclass(frozen=True)
class WeightVersion:
    """Published weights. The store keeps them as long as any process holds this, and no longer.

    They end with the process that published them: a trainer that was rebuilt publishes again.
    """

    version: int
    shards: tuple[Shard, ...]
    bytes: int


def publish(
    weights: Mapping[str, Tensor | np.ndarray], version: int, *, shard_bytes: int = SHARD_BYTES
) -> WeightVersion:
    """Copy the weights into the object store, once; a tensor is never split, so a large one is a shard of its own.

    Call it where the whole weights are: in the trainer's rank 0. Raises ResourceError where the store is full.
    """
    import ray

    sent = {name: _as_array(value) for name, value in weights.items()}
    total = sum(array.nbytes for array, _ in sent.values())
    shards = []
    for names in split({name: array.nbytes for name, (array, _) in sent.items()}, shard_bytes):
        arrays = [sent[name][0] for name in names]
        dtypes = tuple(sent[name][1] for name in names)
        shapes = tuple(array.shape for array in arrays)
        with storing(f"version {version} of the weights ({total / 1e6:.0f} MB)"):
            # out-of-band buffers: the arrays' bytes are copied straight into shared memory
            ref = ray.put(arrays)
        shards.append(Shard(tuple(names), dtypes, shapes, checksum(names, dtypes, arrays), ref))
    return WeightVersion(version, tuple(shards), total)


def receive(published: WeightVersion, *, first: int = 0) -> dict[str, Tensor]:
    """The published tensors as views of shared memory: read only, so copy them, and drop them soon.

    Engines on several nodes give each a different `first` shard to begin with, so that they don't all fetch the same
    one from the trainer. Nothing is returned unless every checksum is right; raises DamagedWeights.
    """
    import ray

    count = len(published.shards)
    order = [(first + place) % count for place in range(count)]
    received: dict[str, Tensor] = {}
    for place, index in enumerate(order):
        if place + 1 < count:
            # the next one travels while this one is checked
            ray.wait([published.shards[order[place + 1]].ref], timeout=0, fetch_local=True)
        shard = published.shards[index]
        arrays = ray.get(shard.ref)
        if checksum(shard.names, shard.dtypes, arrays) != shard.checksum:
            raise DamagedWeights(
                f"shard {index} of weights version {published.version} arrived damaged (its checksum differs, from "
                f"{shard.names[0]} on): publish it again; if it happens twice, check the node's memory"
            )
        for name, dtype, array in zip(shard.names, shard.dtypes, arrays, strict=True):
            received[name] = _as_tensor(array, dtype)
    return {name: received[name] for shard in published.shards for name in shard.names}


class Updatable(Protocol):
    """What an engine must have for its weights to be replaced."""

    def update_weights(self, weights: Mapping[str, Any]) -> None: ...


class VersionedEngine:
    """An engine, and which version of the weights it has: None before the first, and after an update that failed."""

    def __init__(self, engine: Updatable, *, rank: int = 0, version: int | None = None) -> None:
        self.engine, self.rank, self.version = engine, rank, version

    def load(self, published: WeightVersion) -> int:
        """Take over published weights; returns their version."""
        self.version = None
        self.engine.update_weights(receive(published, first=self.rank))
        self.version = published.version
        return self.version

    def require(self, version: int) -> None:
        """Raise StaleWeights unless the engine has this version."""
        if self.version != version:
            has = "no published weights" if self.version is None else f"version {self.version}"
            raise StaleWeights(
                f"engine {self.rank} has {has} and was asked to use version {version}: load that version first"
            )


def split(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    """Names in their order, as many to a shard as fit into `shard_bytes`; at least one each."""
    shards: list[list[str]] = []
    filled = 0
    for name, size in sizes.items():
        if not shards or filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def checksum(names: Sequence[str], dtypes: Sequence[str], arrays: Sequence[np.ndarray]) -> str:
    """xxh3_128 over what each tensor is called and is, and its bytes."""
    digest = xxhash.xxh3_128()
    for name, dtype, array in zip(names, dtypes, arrays, strict=True):
        digest.update(f"{name}\0{dtype}\0{array.shape}\0".encode())
        # an array without elements has no buffer to show
        if array.size:
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _as_array(value: Tensor | np.ndarray) -> tuple[np.ndarray, str]:
    """A contiguous array of the same bytes, in place where it can be, and the torch dtype's name."""
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    tensor = tensor.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if hasattr(np, name) and name != "bool":
        return tensor.numpy(), name
    return tensor.view(_CARRIERS[tensor.element_size()][0]).numpy(), name


def _as_tensor(array: np.ndarray, dtype: str) -> Tensor:
    with warnings.catch_warnings():
        # torch warns that the memory is read only, which is what the callers are told
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch.from_numpy(array)
    return tensor if str(tensor.dtype) == f"torch.{dtype}" else tensor.view(getattr(torch, dtype))
