"""Reading a recorded signal, step by step of its trajectories, and predicting it from observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysafe.errors import DataError

Floats = NDArray[np.float64]
FOLDS = 5
_WIDE = 24
"""Up to so many features, products of two count as features too."""


@dataclass(frozen=True)
class SignalModel:
    """Ridge regression of a standardised signal on standardised observations and their products."""

    mean_D: Floats
    std_D: Floats
    weights_F: Floats
    explained: float
    """R^2 in held-out trajectories (over folds of whole trajectories)."""

    def predict(self, obs_BD: Any) -> Floats:
        """(B,): deviations from the signal's mean; raises DataError for observations of another width."""
        obs_BD = np.asarray(obs_BD, dtype=float)
        if obs_BD.shape[1:] != self.mean_D.shape:
            raise DataError(f"the signal was recorded with {len(self.mean_D)} features, got {obs_BD.shape[1:]}")
        return _features((obs_BD - self.mean_D) / self.std_D) @ self.weights_F


def read_signal(file: str, column: str, lengths: Sequence[int]) -> list[Floats | None]:
    """The signal of each trajectory, (T,), None where the file names none of its steps.

    lengths: steps of each trajectory. Raises DataError, naming file, trajectory and step, for what doesn't fit.
    """
    table = _read_table(file)
    for name in ("trajectory", "step", column):
        if name not in table.column_names:
            raise DataError(f"{file} has no column '{name}'; it has {', '.join(table.column_names)}")
    for name in ("trajectory", "step"):
        if not pa.types.is_integer(table.schema.field(name).type) or table[name].null_count:
            raise DataError(
                f"{file}: '{name}' must be whole numbers, none missing, got {table.schema.field(name).type}"
            )
    kind = table.schema.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise DataError(f"{file}: '{column}' must be numbers, got {kind}")
    numbers_N, steps_N = (np.asarray(table[name].to_numpy(), dtype=np.int64) for name in ("trajectory", "step"))
    values_N = np.asarray(table[column].cast(pa.float64()).to_numpy(), dtype=float)
    if not np.isfinite(values_N).all():
        row = int(np.flatnonzero(~np.isfinite(values_N))[0])
        raise DataError(
            f"{file}: '{column}' is missing or not finite at trajectory {numbers_N[row]}, step {steps_N[row]}"
        )
    strange_N = (numbers_N < 0) | (numbers_N >= len(lengths))
    if strange_N.any():
        raise DataError(f"{file} names trajectory {numbers_N[strange_N][0]}, and there are {len(lengths)}, from 0")
    found: list[Floats | None] = []
    for number, length in enumerate(lengths):
        own_N = numbers_N == number
        found.append(_series(file, number, length, steps_N[own_N], values_N[own_N]) if own_N.any() else None)
    if all(series is None for series in found):
        raise DataError(f"{file} holds no rows: there is no signal")
    return found


def fit(seen: Sequence[Floats], signals: Sequence[Floats], ridge: float) -> SignalModel:
    """The model of all trajectories, and how well models of some foretell the others; at least two are needed."""
    if len(seen) < 2:
        raise DataError(f"a signal needs two trajectories at least, to hold one out; got {len(seen)}")
    folds = [list(range(fold, len(seen), min(FOLDS, len(seen)))) for fold in range(min(FOLDS, len(seen)))]
    missed = total = 0.0
    overall = float(np.concatenate(signals).mean())
    for held in folds:
        rest = [number for number in range(len(seen)) if number not in held]
        parts = _fitted([seen[n] for n in rest], [signals[n] for n in rest], ridge)
        for number in held:
            told_T = parts.model.predict(seen[number]) * parts.std + parts.mean
            missed += float(((signals[number] - told_T) ** 2).sum())
            total += float(((signals[number] - overall) ** 2).sum())
    model = _fitted(seen, signals, ridge).model
    return SignalModel(model.mean_D, model.std_D, model.weights_F, 1.0 - missed / total)


@dataclass(frozen=True)
class _Fitted:
    model: SignalModel
    mean: float
    std: float


def _fitted(seen: Sequence[Floats], signals: Sequence[Floats], ridge: float) -> _Fitted:
    obs_ND, signal_N = np.concatenate(seen), np.concatenate(signals)
    mean, std = float(signal_N.mean()), float(signal_N.std())
    if std == 0:
        raise DataError("the signal is the same at every step: there is nothing to learn of it")
    mean_D, std_D = obs_ND.mean(axis=0), obs_ND.std(axis=0)
    std_D = np.where(std_D > 0, std_D, 1.0)
    features_NF = _features((obs_ND - mean_D) / std_D)
    penalty_FF = ridge * np.eye(features_NF.shape[1])
    # the constant isn't shrunk
    penalty_FF[0, 0] = 0.0
    weights_F: Any = np.linalg.solve(
        features_NF.T @ features_NF + penalty_FF, features_NF.T @ ((signal_N - mean) / std)
    )
    return _Fitted(SignalModel(mean_D, std_D, weights_F, float("nan")), mean, std)


def _features(obs_BD: Floats) -> Floats:
    width = obs_BD.shape[1]
    parts = [np.ones((len(obs_BD), 1)), obs_BD]
    if width <= _WIDE:
        first, second = np.triu_indices(width)
        parts.append(obs_BD[:, first] * obs_BD[:, second])
    return np.hstack(parts)


def _series(file: str, number: int, length: int, steps_N: NDArray[np.int64], values_N: Floats) -> Floats:
    if steps_N.min() < 0 or steps_N.max() >= length:
        step = steps_N[(steps_N < 0) | (steps_N >= length)][0]
        raise DataError(
            f"{file} has step {step} of trajectory {number}, which has {length} steps, from 0: is the series shifted, "
            "or another trajectory's?"
        )
    counts_T = np.bincount(steps_N, minlength=length)
    if (counts_T == 0).any():
        raise DataError(
            f"{file} lacks step {int(np.flatnonzero(counts_T == 0)[0])} of trajectory {number}: leave the whole "
            "trajectory out, or fill it in"
        )
    return np.bincount(steps_N, weights=values_N, minlength=length) / counts_T


def _read_table(file: str) -> pa.Table:
    import pyarrow.feather
    import pyarrow.parquet

    path = Path(file).expanduser()
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        return pyarrow.feather.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"can't read {file} as Parquet, Arrow or Feather: {str(error).splitlines()[0]}") from None
