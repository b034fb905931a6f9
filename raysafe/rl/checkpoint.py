"""Checkpoints of a training in safetensors and JSON: `checkpoints/step-N/`, complete once state.json is there.

Kept are the network, the optimiser, the connectors' statistics, the memory, and all lifetime counters; RLlib's own
checkpoints are pickles, and leave out a part of these.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from raysafe.errors import StorageError
from raysafe.runtime.run import Run

CHECKPOINTS = "checkpoints"
BEST = f"{CHECKPOINTS}/best"
"""The best policy, where its evaluation had no checkpoint: nothing can be resumed from it, for episodes went on."""
ARRAYS = "arrays.safetensors"
STATE = "state.json"


@dataclass
class Position:
    """Where a training stands."""

    iteration: int = 0
    steps: int = 0
    """Environment steps that were learned from."""
    episodes: int = 0
    """Episodes that ended on the way."""
    best: float | None = None
    best_step: int | None = None
    evaluated: int = -1
    """Step of the last evaluation."""
    ended: str | None = None
    """Why it ended before its last step."""
    row: dict[str, float] = field(default_factory=dict)
    """The last iteration's figures, to which its evaluation adds."""


def pack(value: Any, arrays: dict[str, np.ndarray], path: str = "") -> Any:
    """The value as JSON can hold it, its arrays put into `arrays` under their path."""
    if isinstance(value, dict):
        return {
            "dict": [[_key(key), pack(v, arrays, f"{path}/{number}")] for number, (key, v) in enumerate(value.items())]
        }
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(v, arrays, f"{path}/{number}") for number, v in enumerate(value)]}
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        arrays[path] = np.array(value, order="C")
        return {"array": path}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise StorageError(f"a checkpoint can't hold a {type(value).__name__} ({path})")


def unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The reverse of `pack`."""
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "dict":
        return {(tuple(key) if isinstance(key, list) else key): unpack(v, arrays) for key, v in inner}
    if kind == "array":
        return arrays[inner]
    found = [unpack(v, arrays) for v in inner]
    return tuple(found) if kind == "tuple" else found


def _key(key: Any) -> Any:
    return list(key) if isinstance(key, tuple) else key


def folder_of(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:010d}"


def write(run: Run, position: Position, state: dict[str, Any], folder: str | None = None) -> None:
    """One checkpoint, in the folder of its step or in another; the metrics up to there are on the disk before."""
    arrays: dict[str, np.ndarray] = {}
    packed, name = pack(state, arrays), folder or folder_of(position.steps)
    run.flush()
    run.folder.write(f"{name}/{ARRAYS}", save(arrays))
    text = json.dumps({"position": asdict(position), "state": packed})
    run.folder.write(f"{name}/{STATE}", text)


def read(run: Run, step: int) -> tuple[Position, dict[str, Any]]:
    """What the checkpoint of a step holds, or else the best policy's; raises StorageError where it is damaged."""
    name = folder_of(step) if run.folder.exists(f"{folder_of(step)}/{STATE}") else BEST
    try:
        found = json.loads(run.folder.read(f"{name}/{STATE}"))
        arrays = load(run.folder.read(f"{name}/{ARRAYS}"))
        return Position(**found["position"]), unpack(found["state"], arrays)
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise StorageError(f"{run.folder.join(name)} is damaged ({error}): delete that checkpoint's folder") from None


def complete_steps(run: Run) -> list[int]:
    """Steps that have a whole checkpoint, in order."""
    steps = [int(name.removeprefix("step-")) for name in run.folder.list(CHECKPOINTS) if name.startswith("step-")]
    return sorted(step for step in steps if run.folder.exists(f"{folder_of(step)}/{STATE}"))


def forget_old(run: Run, keep: int, best_step: int | None) -> None:
    """Delete all checkpoints but the latest few and the best."""
    for step in complete_steps(run)[:-keep]:
        if step != best_step:
            # the mark goes first: half a checkpoint is none
            run.folder.remove(f"{folder_of(step)}/{STATE}")
            run.folder.remove(folder_of(step))
