"""AutoAttack (Croce and Hein 2020b): several attacks in turn on the same problem, so that broken samples drop out."""

from __future__ import annotations

from collections.abc import Sequence

from raysafe.errors import ConfigError
from raysafe.robustness.attacks.attack import Problem, Search
from raysafe.robustness.attacks.settings import Attack


def in_turn(attacks: Sequence[Attack]) -> Search:
    """Each attack on the samples that those before it left unbroken."""

    def search(problem: Problem) -> None:
        for one in attacks:
            if len(problem.unbroken()):
                one.search()(problem)

    return search


def untargeted(problem: Problem, name: str) -> None:
    """Raise ConfigError where the samples have targets, and the attack chooses its own."""
    if problem.target_B is not None:
        raise ConfigError(f"{name} chooses its own target classes and takes none: use apgd or pgd with a target")
