"""Labelled rows of a table with the groups that people are of: features as numbers, categories one-hot.

Which column becomes which inputs is kept beside a model as features.json, so that other data are read the same way.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from raysafe.config import Config
from raysafe.data.files import RawRow, find_files, raw_rows
from raysafe.data.labelled import Labelled
from raysafe.data.labelled_files import named_classes
from raysafe.errors import ConfigError, DataError, ModelError

FEATURES = "features.json"
MOST_CATEGORIES = 500
GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, lie evenly however many there are."""


class Feature(Config):
    """A column of the table."""

    name: str = Field(min_length=1, description="The column.")
    categories: tuple[str, ...] = Field(default=(), description="One input each; a column of numbers has none.")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it becomes."""
        return tuple(f"{self.name}={category}" for category in self.categories) or (self.name,)


class Features(Config):
    """The columns that a model reads, in the order of its inputs."""

    columns: tuple[Feature, ...] = Field(min_length=1, description="Columns in the order of the inputs.")

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.inputs)


@dataclass(frozen=True, eq=False)
class Grouped:
    """Labelled features (N, D) and, by column, the group of each row."""

    labelled: Labelled
    groups: dict[str, NDArray[np.str_]]
    features: Features

    def __len__(self) -> int:
        return len(self.labelled)

    @property
    def digest(self) -> str:
        """sha256 over features, classes and groups."""
        digest = hashlib.sha256(self.labelled.digest.encode())
        digest.update(json.dumps([self.features.inputs, {k: v.tolist() for k, v in self.groups.items()}]).encode())
        return digest.hexdigest()

    def take(self, rows_N: NDArray[np.integer] | NDArray[np.bool_]) -> Grouped:
        """The rows at these places, in this order."""
        groups = {name: values[rows_N] for name, values in self.groups.items()}
        return Grouped(self.labelled.take(rows_N), groups, self.features)


def load_grouped(
    data: str,
    *,
    label: str,
    groups: Sequence[str] = (),
    drop: Sequence[str] = (),
    keep_groups: bool = False,
    features: Features | None = None,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
) -> Grouped:
    """Rows of a CSV, JSON Lines, Parquet or Arrow file, a folder of them, or a hub id; raises DataError.

    groups: columns that people's groups stand in, features only where keep_groups says so. drop: columns left out.
    features, labels: those of a model, where the rows are to be read as it reads them.
    """
    rows = list(islice((row for file in find_files(data) for row in raw_rows(file)), limit))
    values = [_mapping(row) for row in rows]
    if not rows:
        raise DataError(f"{data} holds no rows")
    names = list(values[0])
    wanted = [label, *groups, *drop, *(column.name for column in features.columns if features)] if features else None
    _check_columns(data, names, wanted or [label, *groups, *drop])
    chosen = (
        [column.name for column in features.columns]
        if features
        else [name for name in names if name not in {label, *drop, *(() if keep_groups else groups)}]
    )
    if not chosen:
        raise DataError(f"{data} has no column left to be a feature: drop fewer of {', '.join(names)[:300]}")
    read = features or Features(columns=tuple(_feature(name, rows, values) for name in chosen))
    x_ND = np.concatenate([_encoded(column, rows, values) for column in read.columns], axis=1)
    found = [_cell(row, value, label) for row, value in zip(rows, values, strict=True)]
    y_N, classes = (
        named_classes(found, None, data) if labels is None else (_classes(found, labels, rows), tuple(labels))
    )
    grouped = {
        name: np.array([str(_cell(row, value, name)) for row, value in zip(rows, values, strict=True)])
        for name in groups
    }
    return Grouped(Labelled(x_ND, y_N, classes), grouped, read)


def split_grouped(grouped: Grouped, fractions: Mapping[str, float], seed: int) -> dict[str, Grouped]:
    """Parts in which each class within each group has its share; fractions add up to 1."""
    if not (abs(sum(fractions.values()) - 1) <= 1e-9 and min(fractions.values()) >= 0):
        raise ConfigError(f"split fractions must be 0 or more and add up to 1, got {dict(fractions)}")
    rng = np.random.default_rng(seed)
    keys = list(zip(grouped.labelled.y.tolist(), *(values.tolist() for values in grouped.groups.values()), strict=True))
    strata: dict[Any, list[int]] = {}
    for place in rng.permutation(len(keys)).tolist():
        strata.setdefault(keys[place], []).append(place)
    # stratum after stratum, every part takes its rows at even distances
    order_N = np.array([place for key in sorted(strata) for place in strata[key]])
    along_N = (np.arange(len(order_N)) * GOLDEN + rng.random()) % 1.0
    part_N = np.searchsorted(np.cumsum(list(fractions.values()))[:-1], along_N, side="right")
    parts = {}
    for number, (name, share) in enumerate(fractions.items()):
        rows = order_N[part_N == number]
        if not rows.size:
            raise DataError(f"of {len(grouped)} rows none is left for '{name}' ({share:g} of them)")
        parts[name] = grouped.take(np.sort(rows))
    return parts


def to_table(grouped: Grouped, label: str) -> pa.Table:
    """The rows as a table that `load_grouped` reads: features, groups, and the class's name."""
    x_ND, columns, place = grouped.labelled.x, dict[str, Any](), 0
    for column in grouped.features.columns:
        width = len(column.inputs)
        values = x_ND[:, place : place + width]
        named = np.array(column.categories)[values.argmax(axis=1)] if column.categories else values[:, 0]
        columns[column.name] = named
        place += width
    columns |= grouped.groups
    return pa.table(columns | {label: np.array(grouped.labelled.labels)[grouped.labelled.y]})


def write_features(features: Features, folder: str | Path) -> None:
    """Beside the model in a folder."""
    Path(folder, FEATURES).write_text(json.dumps(features.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def read_features(folder: str | Path) -> Features:
    """What a model's folder says of its inputs; raises ModelError."""
    path = Path(folder, FEATURES)
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"can't read {path}, by which a table's columns become inputs ({str(error) or type(error).__name__}): "
            "train the model by raysafe classifier"
        ) from None
    return Features.parse(values if isinstance(values, dict) else {}, str(path))


def _mapping(row: RawRow) -> dict[str, Any]:
    if isinstance(row.value, str):
        raise DataError(f"{row.file}:{row.line}: {row.value}")
    return row.value


def _check_columns(data: str, names: list[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise DataError(f"{data} has no column '{name}'; its columns are {', '.join(names)[:400]}")
    twice = next((name for name in wanted if wanted.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"the column '{twice}' is named twice: as label, group, feature or to be dropped")


def _cell(row: RawRow, value: dict[str, Any], name: str) -> Any:
    cell = value.get(name)
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        raise DataError(f"{row.file}:{row.line}: '{name}' is empty: fill it in, drop the column, or take the row out")
    return cell


def _feature(name: str, rows: Sequence[RawRow], values: Sequence[dict[str, Any]]) -> Feature:
    cells = [_cell(row, value, name) for row, value in zip(rows, values, strict=True)]
    if all(map(_is_number, cells)):
        return Feature(name=name)
    categories = sorted({str(cell) for cell in cells})
    if len(categories) > MOST_CATEGORIES:
        raise DataError(
            f"the column '{name}' has {len(categories)} categories, more than {MOST_CATEGORIES}: drop it, or join some"
        )
    return Feature(name=name, categories=tuple(categories))


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _encoded(column: Feature, rows: Sequence[RawRow], values: Sequence[dict[str, Any]]) -> NDArray[np.float32]:
    """(N, inputs of the column)."""
    where = {category: place for place, category in enumerate(column.categories)}
    encoded = np.zeros((len(rows), len(column.inputs)), dtype=np.float32)
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        cell = _cell(row, value, column.name)
        if where:
            if str(cell) not in where:
                raise DataError(
                    f"{row.file}:{row.line}: '{column.name}' is {str(cell)!r}, a category that the model has never "
                    "seen: take such rows out, or train it anew"
                )
            encoded[number, where[str(cell)]] = 1.0
        elif not _is_number(cell):
            raise DataError(f"{row.file}:{row.line}: '{column.name}' must be a number, got {cell!r}"[:300])
        else:
            encoded[number, 0] = float(cell)
    return encoded


def _classes(found: Sequence[Any], labels: Sequence[str], rows: Sequence[RawRow]) -> NDArray[np.int64]:
    where = {name: place for place, name in enumerate(labels)}
    strange = next((place for place, value in enumerate(found) if str(value) not in where), None)
    if strange is not None:
        row = rows[strange]
        raise DataError(f"{row.file}:{row.line}: the class {found[strange]!r} is not one of {', '.join(labels)[:300]}")
    return np.array([where[str(value)] for value in found], dtype=np.int64)
