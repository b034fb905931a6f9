"""The tabular problem that a reward is learned in: one of RaySafe's gridworlds, or a file of arrays.

A file is npz, read without pickle, or safetensors. Its arrays: `transitions` (S, A, S), or `transitions.data`,
`.indices` and `.indptr` of a CSR matrix (S * A, S); `initial` (S,); and, where they are known, `terminal` (S,),
`features` (S, F) or (S, A, F), `rewards` (S, A), the truth to compare with, and `columns`, the width of the grid that
the states lie on.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError
from raysafe.irl.features import Features
from raysafe.rl.mdp import Floats, TabularMDP

_SPARSE = ("transitions.data", "transitions.indices", "transitions.indptr")
KNOWN = ("transitions", *_SPARSE, "initial", "terminal", "features", "rewards", "columns")


@dataclass(frozen=True, eq=False)
class TabularProblem:
    """An MDP, features of its states, the true reward where it is known, and where states lie on a grid.

    obs_SD: what an environment shows of each state, flat, by which observations are turned into states.
    """

    name: str
    mdp: TabularMDP
    features: Features
    rewards_SA: Floats | None = None
    cells_S2: NDArray[np.int64] | None = None
    """Row and column of each state; several states may share a cell."""
    obs_SD: NDArray[np.float32] | None = None

    def numbered(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """With states as numbers, found by what was observed where they aren't given; raises DataError."""
        return [self._numbered(one, number) for number, one in enumerate(trajectories, start=1)]

    def _numbered(self, one: Trajectory, number: int) -> Trajectory:
        if one.states_T1 is not None:
            if one.states_T1.max() >= self.mdp.states or not one.discrete or one.actions_T.max() >= self.mdp.actions:
                raise DataError(
                    f"demonstration {number} has states up to {one.states_T1.max()}; {self.name} has "
                    f"{self.mdp.states} states and {self.mdp.actions} actions, counted from 0"
                )
            return one
        if self.obs_SD is None or one.obs_T1D is None:
            raise DataError(f"demonstration {number} has no states: {self.name} needs them by number")
        seen: dict[bytes, int] = {}
        for state, row in enumerate(self.obs_SD):
            if seen.setdefault(row.tobytes(), state) != state:
                raise DataError(
                    f"states {seen[row.tobytes()]} and {state} of {self.name} look the same: give the demonstrations' "
                    "states by number"
                )
        states = [seen.get(row.tobytes(), -1) for row in one.obs_T1D]
        if -1 in states:
            raise DataError(
                f"demonstration {number} sees at step {states.index(-1)} what no state of {self.name} shows"
            )
        return Trajectory(
            actions_T=one.actions_T,
            states_T1=np.array(states),
            rewards_T=one.rewards_T,
            terminated=one.terminated,
            truncated=one.truncated,
        )

    def on_grid(self, numbers_S: Floats) -> Floats | None:
        """(rows, columns): the mean over the states of each cell, nan where there is none; None without a grid."""
        if self.cells_S2 is None:
            return None
        size = self.cells_S2.max(axis=0) + 1
        sums_HW, counts_HW = np.zeros(size), np.zeros(size)
        placed = (self.cells_S2 >= 0).all(axis=1)
        np.add.at(sums_HW, tuple(self.cells_S2[placed].T), numbers_S[placed])
        np.add.at(counts_HW, tuple(self.cells_S2[placed].T), 1)
        return np.divide(sums_HW, counts_HW, out=np.full(size, np.nan), where=counts_HW > 0)


def problem_of(env: str | None, env_config: Mapping[str, Any], mdp: str | None) -> TabularProblem:
    """Of a gridworld's id or of a file; raises ConfigError where neither or both are given, and DataError."""
    if (env is None) == (mdp is None):
        raise ConfigError("give either env (raysafe/…-v0) or mdp (a file of arrays): a table is learned in one of them")
    return gridworld(env, env_config) if env is not None else read_problem(str(mdp))


def gridworld(env: str, settings: Mapping[str, Any]) -> TabularProblem:
    """One of RaySafe's own; features tell which state it is, and the true reward is the one that it pays."""
    if not env.startswith("raysafe/"):
        raise ConfigError(
            f"env {env} has no table of transitions: give a gridworld (raysafe/…-v0), or method airl or bc"
        )
    from raysafe.rl.envs.problems import problem_named
    from raysafe.rl.envs.table import table

    made = table(problem_named(env, settings))
    states, actions = made.mdp.states, made.mdp.actions
    boards = [made.problem.board(state) for state in made.states]
    cells = [next(((r, row.index("A")) for r, row in enumerate(board) if "A" in row), (-1, -1)) for board in boards]
    layers = [made.problem.layers(state).ravel() for state in made.states]
    return TabularProblem(
        env,
        made.mdp,
        Features(sparse.csr_array(sparse.eye_array(states)), states, actions),
        made.rewards_SA,
        np.array(cells),
        np.stack(layers).astype(np.float32),
    )


def read_problem(path: str) -> TabularProblem:
    """Of a file; raises DataError where arrays are missing or don't fit together."""
    arrays = _arrays(Path(path))
    strange = sorted(set(arrays) - set(KNOWN))
    if strange:
        raise DataError(f"{path} holds the array '{strange[0]}', which has no meaning here; known: {', '.join(KNOWN)}")
    missing = [name for name in ("initial",) if name not in arrays]
    if "transitions" not in arrays:
        missing += [name for name in _SPARSE if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks the array {missing[0]}: an MDP has transitions and initial")
    try:
        mdp = _mdp(arrays)
        features = arrays.get("features")
        given = sparse.csr_array(sparse.eye_array(mdp.states)) if features is None else features.astype(np.float64)
        found = Features(given, mdp.states, mdp.actions)
    except (DataError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    rewards_SA = arrays["rewards"].astype(np.float64) if "rewards" in arrays else None
    if rewards_SA is not None and (rewards_SA.shape != (mdp.states, mdp.actions) or not np.isfinite(rewards_SA).all()):
        raise DataError(
            f"{path}: rewards must be finite, of shape ({mdp.states}, {mdp.actions}), got {rewards_SA.shape}"
        )
    cells_S2 = None
    if "columns" in arrays:
        columns = int(arrays["columns"].flat[0]) if arrays["columns"].size == 1 else 0
        if not 1 <= columns <= mdp.states:
            raise DataError(f"{path}: columns must be from 1 to {mdp.states}, got {columns}")
        cells_S2 = np.stack(np.divmod(np.arange(mdp.states), columns), axis=1)
    return TabularProblem(Path(path).name, mdp, found, rewards_SA, cells_S2)


def _mdp(arrays: dict[str, NDArray[Any]]) -> TabularMDP:
    initial_S = arrays["initial"].astype(np.float64)
    terminal_S = arrays["terminal"].astype(bool) if "terminal" in arrays else None
    if initial_S.ndim != 1 or not len(initial_S):
        raise DataError(f"initial must be a list of probabilities, got the shape {initial_S.shape}")
    if "transitions" in arrays:
        return TabularMDP(arrays["transitions"].astype(np.float64), initial_S, terminal_S)
    data, indices, indptr = (arrays[name] for name in _SPARSE)
    shape = (len(indptr) - 1, len(initial_S))
    inside = not len(indices) or (indices.min() >= 0 and indices.max() < len(initial_S))
    if not inside or not len(indptr) or indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise DataError("sparse transitions have indices outside of their rows and columns")
    return TabularMDP(sparse.csr_array((data.astype(np.float64), indices, indptr), shape=shape), initial_S, terminal_S)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix not in (".npz", ".safetensors"):
        raise DataError(f"can't tell the format of {path}: an MDP's file ends in .npz or .safetensors")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise DataError(f"{path} is not a safetensors file ({error})") from None
    except FileNotFoundError:
        raise DataError(f"there is no file {path}: give the MDP's npz or safetensors file") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} can't be read as arrays ({error}): save plain numbers, not Python objects") from None
