"""What the training loop drives: RLlib's algorithms and the table of Q-learning alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from raysafe.rl.checkpoint import Position


@dataclass(frozen=True)
class Iteration:
    """One round of sampling and learning."""

    steps: int
    """Environment steps that it took."""
    episodes: int
    """Episodes that ended in it."""
    figures: dict[str, float]


@dataclass(frozen=True)
class Episodes:
    """Return and length of each episode of an evaluation."""

    returns_N: NDArray[np.float64]
    lengths_N: NDArray[np.int64]
    admitted: bool = True
    """Whether the policy may be the best one, whatever it returns."""

    @property
    def figures(self) -> dict[str, float]:
        return {
            "evaluation/return": float(self.returns_N.mean()),
            "evaluation/return_sd": float(self.returns_N.std(ddof=1)) if len(self.returns_N) > 1 else 0.0,
            "evaluation/return_least": float(self.returns_N.min()),
            "evaluation/length": float(self.lengths_N.mean()),
        }


class Agent(Protocol):
    """Learns in rounds; all its chance follows from the seed of the last `begin_leg`."""

    def iterate(self, steps: int) -> Iteration:
        """The next round. steps: taken before it."""
        ...

    def evaluate(self) -> Episodes: ...

    def frames(self) -> list[NDArray[np.uint8]]:
        """Pictures of an episode; none where the environment draws none."""
        ...

    def begin_leg(self, seed: int) -> None:
        """Environments and draws begin anew."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any], position: Position) -> None: ...

    def close(self) -> None: ...
