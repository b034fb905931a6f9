"""The tasks of continual learning: sets of examples with one numbering of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysafe.data.labelled import Labelled, split
from raysafe.errors import ConfigError, DataError


@dataclass(frozen=True)
class Task:
    """A task's examples, and which of all classes are its own."""

    name: str
    classes: tuple[int, ...]
    train: Labelled
    validation: Labelled
    test: Labelled


def divide(data: Labelled, groups: Sequence[Sequence[str]]) -> list[Labelled]:
    """The examples of each group of classes; the classes keep their numbers. Raises ConfigError for a strange class."""
    for name in (name for group in groups for name in group):
        if name not in data.labels:
            raise ConfigError(f"tasks names the class '{name}', the data have {', '.join(data.labels)}")
    return [data.take(np.isin(data.y, [data.labels.index(name) for name in group])) for group in groups]


def together(sets: Sequence[Labelled]) -> list[Labelled]:
    """The sets with one numbering of all their classes, in the order in which they come."""
    shapes = {data.x.shape[1:] for data in sets}
    if len(shapes) > 1:
        raise DataError(
            f"the tasks' inputs differ: {', '.join(map(str, sorted(shapes)))}; set size, where they are images that "
            "differ in height and width alone"
        )
    labels = tuple(dict.fromkeys(name for data in sets for name in data.labels))
    numbers = [np.array([labels.index(name) for name in data.labels], dtype=np.int64) for data in sets]
    return [Labelled(data.x, number[data.y], labels) for data, number in zip(sets, numbers, strict=True)]


def make_task(name: str, data: Labelled, validation: float, test: float, seed: int) -> Task:
    """A task with its split."""
    parts = split(data, {"train": 1 - validation - test, "validation": validation, "test": test}, seed)
    return Task(name, tuple(int(number) for number in np.unique(data.y)), **parts)
