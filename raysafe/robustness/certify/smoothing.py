"""Certificates by randomised smoothing (models/smoothed.py) of many inputs, on one process or on a pool of actors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from raysafe.models.mlp import Smoothing
from raysafe.models.smoothed import Classifier, SmoothedClassifier
from raysafe.runtime.cluster import Needs
from raysafe.runtime.pool import Keeper, TableFunction, parallel_map

ABSTAINED = -1


@dataclass(frozen=True)
class Votes:
    """label_B int64, -1 where it abstained; radius_B in the Euclidean norm, 0 there; p_low_B bounds its probability."""

    label_B: Tensor
    radius_B: Tensor
    p_low_B: Tensor


def smooth(model: Classifier, x: Tensor, smoothing: Smoothing, *, seed: int, first: int = 0, batch: int = 256) -> Votes:
    """Of inputs (B, …): number i, counted from `first`, draws from a generator of (seed, i) and of nothing else."""
    classifier = SmoothedClassifier(model, smoothing.sigma, batch=batch, device=str(x.device))
    found = [
        classifier.certify(
            value,
            generator=torch.Generator(x.device).manual_seed(_seed(seed, first + number)),
            selection=smoothing.selection,
            samples=smoothing.samples,
            alpha=smoothing.alpha,
        )
        for number, value in enumerate(x)
    ]
    labels = [ABSTAINED if one.label is None else one.label for one in found]
    return Votes(
        torch.tensor(labels),
        torch.tensor([one.radius for one in found], dtype=torch.float64),
        torch.tensor([one.p_low for one in found], dtype=torch.float64),
    )


def smooth_in_parallel(
    load: Callable[[], Classifier],
    x: Tensor,
    smoothing: Smoothing,
    *,
    seed: int,
    needs: Needs,
    address: str | None = None,
    keeper: Keeper | None = None,
) -> Votes:
    """The same votes, by `needs.workers` actors, each of which loads the model once."""
    rows = x.cpu().numpy()
    shape, dtype = rows.shape[1:], rows.dtype

    def make() -> TableFunction:
        model = load()

        def work(table: pa.Table) -> pa.Table:
            values = np.stack([np.frombuffer(row, dtype=dtype).reshape(shape) for row in table["x"].to_pylist()])
            numbers = table["number"].to_pylist()
            votes = smooth(model, torch.from_numpy(values.copy()), smoothing, seed=seed, first=numbers[0])
            columns = (votes.label_B, votes.radius_B, votes.p_low_B)
            return pa.table({name: column.numpy() for name, column in zip(_COLUMNS, columns, strict=True)})

        return work

    table = pa.table({"number": np.arange(len(rows)), "x": [row.tobytes() for row in rows]})
    found = parallel_map(make, table, needs=needs, description="smoothing", address=address, keeper=keeper)
    return Votes(*(torch.from_numpy(found[name].to_numpy().copy()) for name in _COLUMNS))


_COLUMNS = ("label", "radius", "p_low")


def _seed(seed: int, number: int) -> int:
    """Far apart for neighbours, and the same on every machine."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)
