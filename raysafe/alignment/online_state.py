"""Where an online run stands, and its checkpoints: `checkpoints/step-N/` with a folder per trained role and state.json.

A checkpoint without state.json, which is written last, is none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from raysafe.errors import StorageError
from raysafe.runtime.run import Run

CHECKPOINTS = "checkpoints"
REFERENCES = "reference"
STATE = "state.json"


@dataclass
class Position:
    """Everything that the loop must know to go on, besides the weights."""

    step: int = 0
    updates: int = 0
    """Optimiser steps."""
    samples: int = 0
    """Answers learned from."""
    tokens: int = 0
    kl_coefficient: float = 0.0
    reference: str | None = None
    """Folder in the run that holds the refreshed reference."""
    best: float | None = None
    best_step: int | None = None
    without_gain: int = 0
    """Validations since the best one."""
    validated: int = -1
    """Step of the last validation."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Figures of each validation."""
    ended: str | None = None
    """Why the run ended before its last step."""
    row: dict[str, float] = field(default_factory=dict)
    """The last step's figures, to which its validation adds."""


def folder_of(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}"


def reference_of(step: int) -> str:
    """Folder of the policy that became the reference after a step."""
    return f"{REFERENCES}/step-{step:08d}"


def write_state(run: Run, position: Position) -> None:
    """Complete the checkpoint of the position's step; what metrics say up to there is on the disk before."""
    run.flush()
    run.folder.write(f"{folder_of(position.step)}/{STATE}", json.dumps(asdict(position), indent=1))


def complete_steps(run: Run) -> list[int]:
    """Steps that have a whole checkpoint, in order."""
    names = run.folder.list(CHECKPOINTS)
    steps = [int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdigit()]
    return sorted(step for step in steps if run.folder.exists(f"{folder_of(step)}/{STATE}"))


def read_state(run: Run, step: int) -> Position:
    """The position that a checkpoint holds; raises StorageError where it is damaged."""
    name = f"{folder_of(step)}/{STATE}"
    try:
        values: dict[str, Any] = json.loads(run.folder.read(name))
        return Position(**values)
    except (ValueError, TypeError) as error:
        raise StorageError(f"{run.folder.join(name)} is damaged ({error}): delete that checkpoint's folder") from None


def forget_old(run: Run, keep: int, best_step: int | None) -> None:
    """Delete all checkpoints but the latest few and the best."""
    steps = complete_steps(run)
    for step in steps[:-keep]:
        if step != best_step:
            # the mark goes first: half a checkpoint is none
            run.folder.remove(f"{folder_of(step)}/{STATE}")
            run.folder.remove(folder_of(step))


def forget_references(run: Run) -> None:
    """Delete the references that no checkpoint goes on from; called right after a checkpoint, which has the latest."""
    wanted = {read_state(run, step).reference for step in complete_steps(run)}
    for name in run.folder.list(REFERENCES):
        if f"{REFERENCES}/{name}" not in wanted:
            run.folder.remove(f"{REFERENCES}/{name}")
