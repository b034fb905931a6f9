"""Components of actor groups for tests, sent to the actors by value: they don't see the tests folder."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import ray.cloudpickle
import torch
import torch.distributed as dist

from raysafe.errors import DataError
from raysafe.runtime.group import Member
from raysafe.runtime.weights import VersionedEngine, WeightVersion, publish
from raysafe.runtime.weights_collective import Receiver, Sender, take


class Part:
    """Says where it runs, sums over its group, and fails in several ways."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def pid(self) -> int:
        return os.getpid()

    def about(self) -> Member:
        return self.member

    def threads(self) -> int:
        return torch.get_num_threads()

    def where(self) -> dict[str, Any]:
        context = ray.get_runtime_context()
        gpus = sorted(context.get_accelerator_ids().get("GPU", ()))
        return {"node": context.get_node_id(), "gpus": gpus, "incarnation": self.member.incarnation}

    def times(self, factor: int, *, plus: int = 0) -> int:
        return self.member.rank * factor + plus

    def total(self) -> float:
        """The number of ranks, by a collective."""
        one = torch.ones(1)
        dist.all_reduce(one)
        return float(one)

    def die(self, rank: int) -> float:
        """One rank dies while the others wait for it in a collective."""
        if rank == self.member.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.total()

    def stop(self, rank: int) -> float:
        """One rank is stopped while the others wait for it."""
        if rank == self.member.rank:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.total()

    def broken(self, rank: int) -> float:
        """One rank has a bug; the others wait for it in a collective."""
        if rank == self.member.rank:
            raise KeyError("tokens")
        return self.total()

    def refuse(self) -> None:
        raise DataError("row 3 of rewards.csv has no score")

    def slow(self, chunk: int, rank: int, seconds: float) -> tuple[int, int]:
        """(chunk, rank), after a while on one rank."""
        time.sleep(seconds if self.member.rank == rank else 0.02)
        return chunk, self.member.rank


class Unfit(Part):
    def __init__(self, member: Member) -> None:
        raise DataError("the reward model's tokenizer is another one than the policy's")


def tensors(seed: int) -> dict[str, torch.Tensor]:
    """Tensors of several dtypes and shapes, one of them empty, one a number, one not contiguous."""
    made = torch.Generator().manual_seed(seed)
    return {
        "embedding": torch.randn(300, 7, generator=made),
        "half": torch.randn(33, generator=made).to(torch.bfloat16),
        "turned": torch.randn(4, 5, generator=made, dtype=torch.float64).T,
        "scale": torch.randn((), generator=made).to(torch.bfloat16),
        "mask": torch.rand(9, generator=made) > 0.5,
        "none": torch.zeros(0, 3),
        "ids": torch.randint(0, 99, (2, 3), generator=made),
    }


class Trainer(Part, Sender):
    """Publishes, or sends, tensors that are known by their version."""

    def publish(self, version: int, shard_bytes: int = 1000) -> WeightVersion:
        return publish(tensors(version), version, shard_bytes=shard_bytes)

    def publish_zeros(self, version: int, megabytes: int) -> WeightVersion:
        return publish({"w": torch.zeros(megabytes, 1 << 18)}, version)

    def send(self, version: int) -> None:
        self.channel.send(tensors(version), version, bucket_bytes=1000)


class Rollout(Part, Receiver):
    """Has weights, and answers only with those of the version asked for."""

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        self.weights: dict[str, torch.Tensor] = {}
        self.engine = VersionedEngine(self, rank=member.rank)

    def update_weights(self, weights: dict[str, torch.Tensor]) -> None:
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}

    def load(self, published: WeightVersion) -> int:
        return self.engine.load(published)

    def take(self) -> int:
        return take(self.channel, self.engine)

    def differing(self, version: int) -> list[str]:
        """Names of tensors that differ in any bit from what the trainer has."""
        self.engine.require(version)
        expected = tensors(version)
        same = [n for n, t in expected.items() if n in self.weights and _same(t, self.weights[n])]
        return sorted((set(expected) | set(self.weights)) - set(same))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
