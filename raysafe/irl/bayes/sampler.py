"""What samplers of reward weights share: a state that can be kept, and a piece of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raysafe.irl.bayes.target import Target
from raysafe.rl.mdp import Floats

State = dict[str, np.ndarray]
"""All that a chain needs to go on, random numbers apart."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Consecutive draws of one chain."""

    draws_NF: Floats
    densities_N: Floats
    """Log densities of the posterior over weights, up to its constant."""
    accepted: float
    """Share of proposals that were accepted."""


class Sampler(Protocol):
    def start(self, target: Target, rng: np.random.Generator) -> State:
        """A state drawn from the prior."""
        ...

    def advance(
        self, target: Target, state: State, rng: np.random.Generator, draws: int, warming: bool
    ) -> tuple[State, Drawn]:
        """`draws` more; one warming call is one window in which a sampler may tune itself."""
        ...
