"""The cost of a weight sync: from a trainer to an engine in processes of their own, on one node.

.venv/bin/python -m tests.bench.weight_sync
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import tyro

from raysafe.runtime.group import GroupSpec
from raysafe.runtime.placement import Pool
from raysafe.runtime.supervisor import Supervisor
from raysafe.runtime.weights import VersionedEngine, publish
from tests.bench.cpu import tree_cpu_s


def measure(megabytes: int = 100, rounds: int = 21, warm_up: int = 20) -> dict[str, float]:
    """Publish weights in one actor, load them in another, on this node; the median of some rounds.

    The first versions fill fresh pages of shared memory, which later ones find again.
    """
    specs = [
        GroupSpec("trainer", Pool(cpus=1), {"trainer": SyncFactory(megabytes)}),
        GroupSpec("engine", Pool(cpus=1), {"engine": SyncFactory(megabytes)}),
    ]
    with Supervisor(specs, note=lambda *a, **k: None, deadline_s=120) as supervisor:
        trainer, engine = supervisor.role("trainer"), supervisor.role("engine")
        seconds, cpu = [], []
        for version in range(warm_up + rounds):
            started, before = time.perf_counter(), tree_cpu_s()
            published = trainer.first("publish", version)
            engine.call("load", published)
            del published
            seconds.append(time.perf_counter() - started)
            cpu.append(tree_cpu_s() - before)
    figures = {"wall_ms": 1000 * float(np.median(seconds[warm_up:])), "cpu_ms": 1000 * float(np.median(cpu[warm_up:]))}
    print(
        f"weight sync of {megabytes} MB on one node: {figures['wall_ms']:.1f} ms (median of {rounds}), "
        f"{figures['cpu_ms']:.0f} ms of CPU"
    )
    return figures


@dataclass(frozen=True)
class SyncFactory:
    megabytes: int

    def __call__(self, member: Any) -> Any:
        return SyncPart(self.megabytes)


class SyncPart:
    """Weights of a model of equal layers, as a trainer publishes them and an engine takes them over."""

    def __init__(self, megabytes: int) -> None:
        self.weights = {
            f"layer.{i}.weight": torch.full((512, 512), float(i)) for i in range(megabytes * 10**6 // 2**20)
        }
        self.versioned = VersionedEngine(self)

    def publish(self, version: int) -> Any:
        return publish(self.weights, version)

    def load(self, published: Any) -> int:
        return self.versioned.load(published)

    def update_weights(self, weights: Any) -> None:
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)


def main(megabytes: int = 100, json: Path | None = None) -> None:
    """Time weights of this size. json: file that gets the figures."""
    found = measure(megabytes)
    if json is not None:
        json.write_text(dumps(found))


if __name__ == "__main__":
    tyro.cli(main)
