"""Attacks by name, as frozen settings that can be called: `PGD(steps=100)(model, x, y, norm="linf", epsilon=0.1)`.

In YAML, `{attack: pgd, steps: 100, restarts: 5}`. Importing this needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from raysafe.config import Config

if TYPE_CHECKING:
    from torch import Tensor

    from raysafe.robustness.attacks.attack import AttackResult, Model, Search
    from raysafe.robustness.attacks.balls import Box, Norm

Loss = Literal["cross-entropy", "dlr", "margin"]
_LOSS = "What is raised: cross-entropy, the difference of logits ratio, or the margin of logits."


class Attack(Config):
    """One attack; calling it runs it."""

    seed: int = Field(default=0, ge=0, description="Seed of the attack's random choices, which belong to each sample.")

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        norm: Norm,
        epsilon: float,
        target: Tensor | None = None,
        sample: Tensor | None = None,
        box: Box | None = None,
    ) -> AttackResult:
        """See attack.attack."""
        from raysafe.robustness.attacks.attack import attack

        return attack(self.search(), model, x, y, norm=norm, epsilon=epsilon, target=target, sample=sample, box=box)

    def search(self) -> Search:
        raise NotImplementedError(f"{type(self).__name__} defines no search()")


class FGSM(Attack):
    """One step of length epsilon along the gradient's steepest direction (Goodfellow, Shlens and Szegedy 2015)."""

    attack: Literal["fgsm"] = "fgsm"
    loss: Loss = Field(default="cross-entropy", description=_LOSS)

    def search(self) -> Search:
        from raysafe.robustness.attacks.pgd import pgd

        return pgd(PGD(steps=1, step_size=1.0, random_start=False, loss=self.loss, sparsity=1.0, seed=self.seed))


class PGD(Attack):
    """Projected gradient ascent from random starts (Madry et al. 2018)."""

    attack: Literal["pgd"] = "pgd"
    steps: int = Field(default=40, ge=1, le=100_000, description="Gradient steps of each restart.")
    restarts: int = Field(default=1, ge=1, le=10_000, description="Starts; later ones are of unbroken samples alone.")
    step_size: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Step in units of epsilon; 2.5 / steps by default."
    )
    random_start: bool = Field(default=True, description="Start at a random point of the ball, else at the sample.")
    momentum: float = Field(
        default=0.0, ge=0, le=1, description="Part of the last direction that is kept (Dong et al. 2018)."
    )
    loss: Loss = Field(default="cross-entropy", description=_LOSS)
    sparsity: float = Field(default=0.05, gt=0, le=1, description="In L1: the part of the features that a step moves.")

    def search(self) -> Search:
        from raysafe.robustness.attacks.pgd import pgd

        return pgd(self)


AnyAttack = Annotated[FGSM | PGD, Field(discriminator="attack")]
"""The field of a config that names an attack."""

ATTACKS: dict[str, type[Attack]] = {"fgsm": FGSM, "pgd": PGD}
