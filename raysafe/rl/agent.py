"""What the training loop drives: RLlib's algorithms and the table of Q-learning alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import gymnasium as gym

    from raysafe.rl.checkpoint import Position
    from raysafe.rl.policy import Policy


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


@runtime_checkable
class Exportable(Protocol):
    """An agent whose policy is a network, which can be served."""

    def policy(self, card: dict[str, Any]) -> Policy:
        """The policy as it is now. card: the fields of PolicyCard that it doesn't know of itself.

        Raises ModelError where the format can't hold it.
        """
        ...

    def make_env(self) -> gym.Env:
        """An environment as evaluations have it."""
        ...
