"""What was done in an environment, written down so that it can be played again: seed, draw, actions, and a digest.

One Arrow file for each environment, in the stream format: what a killed process has written stays readable.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysafe.errors import DataError, StorageError
from raysafe.rl.envs.problem import Problem

SCHEMA = pa.schema(
    [
        pa.field("env_id", pa.string(), nullable=False),
        pa.field("env_config", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("draw", pa.int64(), nullable=False),
        pa.field("actions", pa.list_(pa.int8()), nullable=False),
        pa.field("ended", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)
BATCH = 64
"""Episodes that are written at once, and so at most lost when a process is killed."""


@dataclass(frozen=True)
class Episode:
    """seed and draw: where in the chance of which seed it began. ended: terminated, truncated, or open if given up."""

    env_id: str
    env_config: dict[str, Any]
    seed: int
    draw: int
    actions: list[int]
    ended: str | None = None
    digest: str | None = None


class Recorder:
    """Keeps the running episode of each of N copies; writes one down when it is over."""

    def __init__(self, folder: str, problem: Problem, observation: str, obs_N: NDArray[Any]) -> None:
        """obs_N: observations of the kind that come, for their shape."""
        copies, shape = len(obs_N), obs_N.shape[1:]
        self._same = {
            "env_id": f"raysafe/{type(problem).__name__}-v0",
            "env_config": json.dumps({"observation": observation, **problem.model_dump(mode="json")}),
        }
        self._obs_TN = np.zeros((problem.limit + 1, copies, *shape), obs_N.dtype)
        self._rewards_TN = np.zeros((problem.limit, copies))
        self._actions_TN = np.zeros((problem.limit, copies), dtype=np.int8)
        self._began: list[tuple[int, int] | None] = [None] * copies
        self._steps_N = np.zeros(copies, dtype=np.int64)
        self._out = _File(Path(folder), type(problem).__name__)
        self.close = weakref.finalize(self, self._out.close)

    def begin(
        self, copies: NDArray[np.int64], obs_N: NDArray[Any], seeds: list[int], draws: NDArray[np.uint64]
    ) -> None:
        """Episodes begin in some copies; the arrays are for all of them."""
        for copy in copies.tolist():
            self._end(copy, "open")
            self._began[copy] = seeds[copy], int(draws[copy])
            self._obs_TN[0, copy] = obs_N[copy]
        self._steps_N[copies] = 0

    def step(
        self,
        copies: NDArray[np.int64],
        actions_N: NDArray[Any],
        obs_N: NDArray[Any],
        rewards_N: NDArray[np.float64],
        terminated_N: NDArray[np.bool_],
        truncated_N: NDArray[np.bool_],
    ) -> None:
        """Steps were made in some copies; the arrays are for all of them."""
        copies = copies[[self._began[copy] is not None for copy in copies.tolist()]]
        times = self._steps_N[copies]
        self._actions_TN[times, copies] = actions_N[copies]
        self._rewards_TN[times, copies] = rewards_N[copies]
        self._obs_TN[times + 1, copies] = obs_N[copies]
        self._steps_N[copies] += 1
        for copy in copies[(terminated_N | truncated_N)[copies]].tolist():
            self._end(copy, "terminated" if terminated_N[copy] else "truncated")

    def forget(self) -> None:
        """The episodes under way are others than were seen to begin."""
        self._began = [None] * len(self._began)

    def flush(self) -> None:
        """Write all that there is, episodes under way as `open`."""
        for copy in range(len(self._began)):
            self._end(copy, "open")
        self._out.flush()

    def _end(self, copy: int, ended: str) -> None:
        began, steps = self._began[copy], int(self._steps_N[copy])
        self._began[copy] = None
        if began is None or steps == 0:
            return
        self._out.add(
            {
                **self._same,
                "seed": began[0],
                "draw": began[1],
                "actions": self._actions_TN[:steps, copy].tolist(),
                "ended": ended,
                "digest": digest(self._obs_TN[: steps + 1, copy], self._rewards_TN[:steps, copy]),
            }
        )


def digest(obs_T1: NDArray[Any], rewards_T: NDArray[np.float64]) -> str:
    """SHA-256 of the observations' bytes and the rewards'."""
    return hashlib.sha256(obs_T1.tobytes() + rewards_T.astype("<f8").tobytes()).hexdigest()


def read(path: str | Path) -> list[Episode]:
    """The episodes of a file, in the order in which they were over; what a kill tore off at the end is left out.

    Raises DataError for a file that isn't a recording.
    """
    rows: list[dict[str, Any]] = []
    try:
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as stream:
            if stream.schema != SCHEMA:
                raise DataError(f"{path} has the columns {stream.schema.names}, a recording has {SCHEMA.names}")
            while True:
                try:
                    rows.extend(stream.read_next_batch().to_pylist())
                except (StopIteration, pa.ArrowInvalid, OSError):
                    break
    except FileNotFoundError:
        raise DataError(f"there is no recording {path}") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a recording of episodes: {error}") from None
    return [Episode(**{**row, "env_config": json.loads(row["env_config"])}) for row in rows]


class _File:
    """Made with the first episodes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}-{uuid.uuid4().hex[:12]}.arrow"
        self._rows: list[dict[str, Any]] = []
        self._sink: pa.OSFile | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._sink = pa.OSFile(str(self.path), "wb")
                self._writer = pa.ipc.new_stream(self._sink, SCHEMA)
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=SCHEMA))
        except OSError as error:
            raise StorageError(f"can't record episodes in {self.path}: {error.strerror or error}") from None
        self._rows = []

    def close(self) -> None:
        self.flush()
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None
