"""Transfer attacks: adversarial points of a surrogate, which the attacker has, tried on the model, which it hasn't."""

from __future__ import annotations

from raysafe.robustness.attacks.attack import Model, Problem, Search
from raysafe.robustness.attacks.settings import Attack


def transfer(by: Attack, surrogate: Model) -> Search:
    """Every point that the attack gives goes to the model, those that didn't fool the surrogate too."""

    def search(problem: Problem) -> None:
        rows_R = problem.unbroken()
        found = by(
            surrogate,
            problem.x[rows_R],
            problem.y_B[rows_R],
            norm=problem.norm,
            epsilon=problem.epsilon,
            target=problem.targets(rows_R),
            sample=problem.sample_B[rows_R],
            box=problem.box,
        )
        problem.claim(found.adversarial, rows_R)

    return search
