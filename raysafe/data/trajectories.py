"""Trajectories: what somebody did in an environment, step by step, as arrays and as rows of one Arrow schema.

A trajectory of T actions has T + 1 states or observations: the last is where it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysafe.data.conversation import BadValue
from raysafe.errors import DataError

SCHEMA = pa.schema(
    {
        "states": pa.list_(pa.int64()),
        "observations": pa.list_(pa.list_(pa.float32())),
        "actions": pa.list_(pa.int64()),
        "continuous_actions": pa.list_(pa.list_(pa.float32())),
        "rewards": pa.list_(pa.float64()),
        "terminated": pa.bool_(),
        "truncated": pa.bool_(),
        "row": pa.int64(),
    }
)
"""One row a trajectory: states or observations (or both), and actions or continuous_actions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """What was seen and done in one episode; raises DataError, naming the field, for what doesn't fit together.

    Discrete actions are numbers from 0, continuous ones vectors. Lists are taken and become arrays.
    """

    actions_T: NDArray[Any]
    """(T,) int64, or (T, dimensions) float32."""
    states_T1: NDArray[np.int64] | None = None
    """(T + 1,) numbers of the states of a tabular problem."""
    obs_T1D: NDArray[np.float32] | None = None
    """(T + 1, features); an observation of more dimensions is flattened."""
    rewards_T: NDArray[np.float64] | None = None
    terminated: bool = False
    """The last state ends the episode; nothing more is earned from it."""
    truncated: bool = False
    """The recording stops though the episode could go on."""

    def __post_init__(self) -> None:
        actions_T = _actions(self.actions_T)
        steps = len(actions_T)
        if not steps:
            raise DataError("actions is empty: a trajectory needs one step at least")
        if self.states_T1 is None and self.obs_T1D is None:
            raise DataError("there are neither states nor observations: give one of them")
        object.__setattr__(self, "actions_T", actions_T)
        if self.states_T1 is not None:
            object.__setattr__(self, "states_T1", _long(_whole(self.states_T1, "states"), "states", steps + 1, steps))
        if self.obs_T1D is not None:
            obs_T1D = _long(_numbers(self.obs_T1D, "observations"), "observations", steps + 1, steps)
            object.__setattr__(self, "obs_T1D", _single(obs_T1D.reshape(steps + 1, -1), "observations"))
        if self.rewards_T is not None:
            rewards_T = _long(_numbers(self.rewards_T, "rewards"), "rewards", steps, steps)
            if rewards_T.ndim != 1:
                raise DataError(f"rewards must be one number a step, got the shape {rewards_T.shape}")
            object.__setattr__(self, "rewards_T", rewards_T.astype(np.float64, copy=False))
        if self.terminated and self.truncated:
            raise DataError("terminated and truncated are both true: an episode ended or was cut off, not both")

    def __len__(self) -> int:
        return len(self.actions_T)

    @property
    def discrete(self) -> bool:
        return self.actions_T.ndim == 1

    def row(self) -> dict[str, Any]:
        """The trajectory as a row of SCHEMA, without the row's number."""
        discrete = self.actions_T if self.discrete else None
        return {
            "states": self.states_T1,
            "observations": None if self.obs_T1D is None else list(self.obs_T1D),
            "actions": discrete,
            "continuous_actions": None if discrete is not None else list(self.actions_T),
            "rewards": self.rewards_T,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }


def parse(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A row of SCHEMA from one that was written by hand: `actions` may hold numbers or vectors; raises BadValue."""
    actions = raw.get("actions") if raw.get("actions") is not None else raw.get("continuous_actions")
    if actions is None:
        raise BadValue(f"no field 'actions' (found: {', '.join(map(str, raw))[:200] or 'nothing'})")
    for name in ("terminated", "truncated"):
        if not isinstance(raw.get(name, False), bool | None):
            raise BadValue(f"{name} must be true or false, got {raw[name]!r}"[:100])
    try:
        trajectory = Trajectory(
            actions_T=actions,
            states_T1=raw.get("states"),
            obs_T1D=raw.get("observations"),
            rewards_T=raw.get("rewards"),
            terminated=bool(raw.get("terminated")),
            truncated=bool(raw.get("truncated")),
        )
    except DataError as error:
        raise BadValue(str(error)) from None
    return trajectory.row()


def to_table(trajectories: Iterable[Trajectory]) -> pa.Table:
    """Rows of SCHEMA, numbered from 1."""
    rows = [trajectory.row() | {"row": number} for number, trajectory in enumerate(trajectories, start=1)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_table(table: pa.Table) -> list[Trajectory]:
    """Trajectories from rows of SCHEMA."""
    columns = {name: table[name].combine_chunks() for name in SCHEMA.names}
    found = []
    for index in range(table.num_rows):
        row: dict[str, Any] = {name: _array(columns[name][index]) for name in SCHEMA.names[:5]}
        found.append(
            Trajectory(
                actions_T=row["continuous_actions"] if row["actions"] is None else row["actions"],
                states_T1=row["states"],
                obs_T1D=row["observations"],
                rewards_T=row["rewards"],
                terminated=columns["terminated"][index].as_py(),
                truncated=columns["truncated"][index].as_py(),
            )
        )
    return found


def _array(cell: Any) -> NDArray[Any] | None:
    """The numbers of a list, or of a list of lists that are equally long, without passing through Python's."""
    if not cell.is_valid:
        return None
    values = cell.values
    if not pa.types.is_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)


def _actions(value: Any) -> NDArray[Any]:
    found = _numbers(value, "actions")
    if found.ndim > 1:
        return _single(found.reshape(len(found), -1), "actions")
    if found.size and np.issubdtype(found.dtype, np.floating):
        raise DataError("actions must be whole numbers, or vectors ([[0.5], …]) where they are continuous")
    return _whole(found, "actions")


def _whole(value: Any, name: str) -> NDArray[np.int64]:
    """(N,) numbers from 0."""
    found = _numbers(value, name)
    if found.ndim != 1:
        raise DataError(f"{name} must be a list of whole numbers, got the shape {found.shape}")
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise DataError(f"{name} must be whole numbers, got {found[0]}")
    if (found < 0).any():
        raise DataError(f"{name} must be 0 or more, got {int(found.min())} at step {int(found.argmin())}")
    return found.astype(np.int64, copy=False)


def _single(found: NDArray[Any], name: str) -> NDArray[np.float32]:
    if found.size and np.abs(found).max() > np.finfo(np.float32).max:
        raise DataError(f"{name} must be within single precision (3.4e38), got {np.abs(found).max():.3g}")
    return found.astype(np.float32, copy=False)


def _numbers(value: Any, name: str) -> NDArray[Any]:
    try:
        found = np.asarray(value)
    except ValueError:
        raise DataError(f"{name} has entries of different lengths: each step needs the same number") from None
    if found.dtype == np.bool_ or not (np.issubdtype(found.dtype, np.number) or not found.size) or found.ndim == 0:
        raise DataError(f"{name} must be a list of numbers, one entry a step")
    if np.issubdtype(found.dtype, np.complexfloating):
        raise DataError(f"{name} must be real numbers")
    finite = np.isfinite(found) if np.issubdtype(found.dtype, np.floating) else np.ones(1, dtype=bool)
    if not finite.all():
        raise DataError(f"{name} must be finite, but isn't at step {int(np.argwhere(~finite)[0][0])}")
    return found


def _long(found: NDArray[Any], name: str, wanted: int, steps: int) -> NDArray[Any]:
    if len(found) != wanted:
        last = ", the last being where the trajectory ended" if wanted > steps else ""
        raise DataError(f"{name} must have {wanted} entries for {steps} actions{last}, got {len(found)}")
    return found
