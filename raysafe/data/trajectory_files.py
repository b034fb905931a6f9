"""Trajectories from files: JSON Lines, Parquet or Arrow rows, `imitation`-style npz, and minari's dataset folders.

No file's own code is ever run: npz is read without pickle, and a minari dataset must state its spaces, since it would
otherwise be asked to build the environment that it names.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysafe.data.readers import SHOWN_BAD_ROWS, BadRow, read
from raysafe.data.trajectories import Trajectory, from_table
from raysafe.errors import ConfigError, DataError
from raysafe.records.digest import file_digest

if TYPE_CHECKING:
    from minari import MinariDataset


@dataclass(frozen=True)
class Demonstrations:
    """Trajectories, sha256 over the files that they came from, and the trajectories that were left out."""

    trajectories: list[Trajectory]
    digest: str
    bad_rows: list[BadRow]


def read_trajectories(uri: str, *, skip_bad_rows: bool = False, limit: int | None = None) -> Demonstrations:
    """The first `limit` good trajectories of a file, folder, glob, Hugging Face dataset id, or minari dataset.

    A minari dataset is named by its folder, or by its id where it lies among minari's own datasets. Raises DataError
    for missing files, for bad trajectories unless they are to be skipped, and where none is left; they all have the
    same fields and numbers of features.
    """
    path = Path(os.path.expanduser(uri))
    if path.suffix == ".npz":
        found, bad, digest = *_npz(path), _digest([path])
    elif (folder := _minari_folder(uri, path)) is not None:
        found, bad = _minari(folder)
        digest = _digest(sorted(file for file in folder.rglob("*") if file.is_file()))
    else:
        rows = read(uri, "trajectories", skip_bad_rows=skip_bad_rows, limit=limit)
        found, bad, digest = from_table(rows.table), rows.bad_rows, rows.digest
    if bad and not skip_bad_rows:
        shown = "; ".join(map(str, bad[:SHOWN_BAD_ROWS])) + ("; …" if len(bad) > SHOWN_BAD_ROWS else "")
        raise DataError(f"{len(bad)} bad trajectories in {uri}: {shown} (mend them, or set skip_bad_rows)")
    if not found:
        raise DataError(f"{uri} holds no trajectories" + (f": all {len(bad)} are bad, first {bad[0]}" if bad else ""))
    found = found[:limit]
    _check_alike(uri, found)
    return Demonstrations(found, digest, bad)


def _check_alike(uri: str, trajectories: list[Trajectory]) -> None:
    first = _form(trajectories[0])
    for number, trajectory in enumerate(trajectories, start=1):
        for (name, wanted), (_, found) in zip(first, _form(trajectory), strict=True):
            if wanted != found:
                raise DataError(
                    f"the trajectories in {uri} differ: {name} of trajectory {number} is {found}, of the first "
                    f"{wanted}; give those of one environment only"
                )


def _form(trajectory: Trajectory) -> list[tuple[str, str]]:
    def width(array: NDArray[Any] | None) -> str:
        return "missing" if array is None else f"{array.shape[1]} numbers a step" if array.ndim == 2 else "one number"

    return [
        ("states", width(trajectory.states_T1)),
        ("observations", width(trajectory.obs_T1D)),
        ("actions", width(trajectory.actions_T)),
    ]


def _digest(files: list[Path]) -> str:
    return hashlib.sha256("".join(file_digest(file) for file in files).encode()).hexdigest()


def _npz(path: Path) -> tuple[list[Trajectory], list[BadRow]]:
    """All trajectories end to end: obs and acts, rews if they are known, `indices` (into acts) where one ends and
    the next begins, `terminal` for each. An array of objects, as `infos` often is, isn't opened."""
    arrays = _arrays(path)
    for name in ("obs", "acts", "indices"):
        if name not in arrays:
            raise DataError(f"{path} has no array '{name}' (found: {', '.join(arrays) or 'nothing'})")
    acts, obs, ends = arrays["acts"], arrays["obs"], arrays["indices"]
    if ends.ndim != 1 or (ends.size and not np.issubdtype(ends.dtype, np.integer)):
        raise DataError(f"{path}: indices must be whole numbers, got the shape {ends.shape} of {ends.dtype}")
    bounds = [0, *ends.tolist(), len(acts)]
    count = len(bounds) - 1
    if sorted(bounds) != bounds:
        raise DataError(f"{path}: indices must grow from 0 to the number of acts ({len(acts)})")
    wanted = {"obs": len(acts) + count, "rews": len(acts), "terminal": count}
    for name, length in wanted.items():
        if name in arrays and (arrays[name].ndim == 0 or len(arrays[name]) != length):
            raise DataError(
                f"{path}: {name} must have {length} entries for {len(acts)} acts in {count} trajectories, "
                f"got the shape {arrays[name].shape}"
            )
    terminal = arrays.get("terminal", np.zeros(count, dtype=bool)).astype(bool)
    tabular = obs.ndim == 1 and np.issubdtype(obs.dtype, np.integer)
    found, bad = [], []
    for number, (start, end) in enumerate(itertools.pairwise(bounds)):
        seen = obs[start + number : end + number + 1]
        try:
            trajectory = Trajectory(
                actions_T=acts[start:end],
                states_T1=seen if tabular else None,
                obs_T1D=None if tabular else seen,
                rewards_T=arrays["rews"][start:end] if "rews" in arrays else None,
                terminated=bool(terminal[number]),
                truncated=not terminal[number],
            )
        except DataError as error:
            bad.append(BadRow(str(path), number + 1, str(error)))
        else:
            found.append(trajectory)
    return found, bad


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("obs", "acts", "rews", "indices", "terminal") if name in file.files}
    except FileNotFoundError:
        raise DataError(f"there is no data file {path}") from None
    except PermissionError:
        raise DataError(f"no permission to read {path}: change its mode or copy it") from None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise DataError(f"{path} is not an npz file ({error}): fetch it again") from None
        raise DataError(
            f"{path} holds Python objects where numbers are wanted, and pickle is never opened: save obs, acts, rews "
            "and indices as plain arrays"
        ) from None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole npz file ({error}): fetch it again") from None


def _minari_folder(uri: str, path: Path) -> Path | None:
    """The folder `data` of the minari dataset that a path or an id names, if it names one."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    candidates = [path / "data", path, *([] if path.is_absolute() else [root / uri / "data"])]
    return next((folder for folder in candidates if _is_minari(folder)), None)


def _is_minari(folder: Path) -> bool:
    file = folder / "metadata.json"
    return file.is_file() and '"minari_version"' in file.read_text(encoding="utf-8", errors="replace")


def _minari(folder: Path) -> tuple[list[Trajectory], list[BadRow]]:
    """Raises DataError for damage, wherever minari and HDF5 come upon it."""
    try:
        return _episodes(folder)
    except (ValueError, KeyError, OSError) as error:
        raise DataError(f"{folder} can't be read as a minari dataset ({error}): fetch it again") from None


def _episodes(folder: Path) -> tuple[list[Trajectory], list[BadRow]]:
    dataset = _open_minari(folder)
    from gymnasium.spaces import Box, Discrete

    for name, space in (("observations", dataset.observation_space), ("actions", dataset.action_space)):
        if not isinstance(space, Box | Discrete):
            raise DataError(f"{folder}: {name} are of the space {space}: only Box and Discrete spaces are read")
    found, bad = [], []
    shifts = [getattr(space, "start", 0) for space in (dataset.observation_space, dataset.action_space)]
    tabular = isinstance(dataset.observation_space, Discrete)
    for episode in dataset.iterate_episodes():
        try:
            trajectory = Trajectory(
                actions_T=episode.actions - shifts[1],
                states_T1=episode.observations - shifts[0] if tabular else None,
                obs_T1D=None if tabular else episode.observations,
                rewards_T=episode.rewards,
                terminated=bool(episode.terminations[-1:].any()),
                truncated=bool(episode.truncations[-1:].any() and not episode.terminations[-1:].any()),
            )
        except DataError as error:
            bad.append(BadRow(str(folder), int(episode.id) + 1, str(error)))
        else:
            found.append(trajectory)
    return found, bad


def _open_minari(folder: Path) -> MinariDataset:
    try:
        from minari import MinariDataset
        from minari.dataset.minari_storage import MinariStorage
    except ImportError:
        raise ConfigError(f"{folder} is a minari dataset: install it with `pip install 'raysafe[minari]'`") from None
    missing = {"observation_space", "action_space"} - MinariStorage.read_raw_metadata(folder).keys()
    if missing:
        raise DataError(f"{folder}/metadata.json doesn't state {' and '.join(sorted(missing))}: write them there")
    return MinariDataset(folder)
