"""What learning tasks one after the other did to each: figures of the matrix of accuracies.

matrix_TT[i, j] is the accuracy on task j after learning task i (Lopez-Paz and Ranzato 2017, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Continual:
    """A sequence of tasks in figures, each in accuracy (0 to 1)."""

    average: float
    """Mean accuracy over all tasks at the end."""
    backward_transfer: float
    """Mean over the earlier tasks of accuracy at the end less accuracy when it was learned; below 0 is forgetting."""
    forward_transfer: float | None
    """Mean over the later tasks of accuracy just before it is learned less an untrained network's."""
    forgetting_T: tuple[float, ...]
    """Of each task but the last: the best accuracy it ever had less the one at the end (Chaudhry et al. 2018)."""

    @property
    def worst_forgetting(self) -> float:
        return max(self.forgetting_T)


def summarise(matrix_TT: Floats, untrained_T: Floats | None = None) -> Continual:
    """Figures of a matrix of two tasks or more; untrained_T: accuracies before anything was learned."""
    tasks = len(matrix_TT)
    if matrix_TT.shape != (tasks, tasks) or tasks < 2:
        raise ValueError(f"the matrix of accuracies needs as many rows as columns, 2 or more, got {matrix_TT.shape}")
    last_T, learned_T = matrix_TT[-1], matrix_TT.diagonal()
    before_T = matrix_TT[np.arange(tasks - 1), np.arange(1, tasks)]
    best_T = matrix_TT[:-1, :-1].max(axis=0)
    return Continual(
        average=float(last_T.mean()),
        backward_transfer=float((last_T - learned_T)[:-1].mean()),
        forward_transfer=None if untrained_T is None else float((before_T - untrained_T[1:]).mean()),
        forgetting_T=tuple((best_T - last_T[:-1]).tolist()),
    )
