"""Comparisons of trajectories: which of two pieces of behaviour somebody preferred, as rows of one Arrow schema.

A row holds both pieces with what is known of each (see trajectories.py), the preference and who gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysafe.data.cache import written_whole
from raysafe.data.trajectories import SCHEMA as TRAJECTORY
from raysafe.data.trajectories import Trajectory, from_table
from raysafe.errors import DataError

_SIDE = pa.struct([field for field in TRAJECTORY if field.name != "row"])
SCHEMA = pa.schema({"a": _SIDE, "b": _SIDE, "preference": pa.float64(), "rater": pa.string()})


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two pieces of behaviour and what a rater said of them; raises DataError where they don't fit together."""

    a: Trajectory
    b: Trajectory
    preference: float
    """1 where a is preferred, 0 where b is, 0.5 for a tie."""
    rater: str = "rater"

    def __post_init__(self) -> None:
        if not 0 <= self.preference <= 1:
            raise DataError(f"preference must be from 0 (b is better) to 1 (a is better), got {self.preference}")
        for name in ("obs_T1D", "states_T1"):
            a, b = (getattr(side, name) for side in (self.a, self.b))
            if (a is None) != (b is None) or (a is not None and a.shape[1:] != b.shape[1:]):
                raise DataError(f"the sides of a comparison differ in their {name}: they are of two environments")
        if self.a.actions_T.shape[1:] != self.b.actions_T.shape[1:]:
            raise DataError("the sides of a comparison differ in the kind of their actions: of two environments")


def to_table(comparisons: Sequence[Comparison]) -> pa.Table:
    """Rows of SCHEMA."""
    rows = [
        {"a": found.a.row(), "b": found.b.row(), "preference": found.preference, "rater": found.rater}
        for found in comparisons
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def comparisons_of(table: pa.Table, source: str = "the table") -> list[Comparison]:
    """Comparisons from rows of SCHEMA; raises DataError naming the row that can't be used."""
    if not table.schema.remove_metadata().equals(SCHEMA):
        raise DataError(f"{source} holds no comparisons: its columns must be {', '.join(SCHEMA.names)} as written here")
    found = []
    for index in range(table.num_rows):
        try:
            a, b = (_side(table, name, index) for name in ("a", "b"))
            preference, rater = (table[name][index].as_py() for name in ("preference", "rater"))
            found.append(Comparison(a, b, float("nan") if preference is None else preference, rater or "rater"))
        except DataError as error:
            raise DataError(f"{source}: row {index + 1}: {error}") from None
    return found


def write_comparisons(comparisons: Sequence[Comparison], path: str | Path) -> None:
    """Write a Parquet file whole."""
    with written_whole(Path(path)) as partial:
        pq.write_table(to_table(comparisons), partial)


def read_comparisons(path: str | Path) -> list[Comparison]:
    """The comparisons of a Parquet file; raises DataError."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"can't read comparisons from {path}: {str(error).splitlines()[0]}") from None
    found = comparisons_of(table, str(path))
    if not found:
        raise DataError(f"{path} holds no comparisons")
    return found


def _side(table: pa.Table, name: str, index: int) -> Trajectory:
    cell = table[name].slice(index, 1).combine_chunks()
    columns = {field.name: cell.field(number) for number, field in enumerate(_SIDE)}
    row = pa.table({**columns, "row": pa.array(np.ones(1, dtype=np.int64))}, schema=TRAJECTORY)
    return from_table(row)[0]
