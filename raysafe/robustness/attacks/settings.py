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
    draws: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Of a randomised model: logits are the mean over so many draws, in the attack and when what it "
        "found is predicted again (expectation over transformations, Athalye et al. 2018).",
    )

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

        if self.draws > 1:
            from raysafe.robustness.attacks.transformations import ExpectedLogits

            model = ExpectedLogits(model, self.draws, self.seed)
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
    sparsity: float = Field(default=0.03, gt=0, le=1, description="In L1: the part of the features that a step moves.")
    early_exit: bool = Field(
        default=True,
        description="A sample is left alone at its first adversarial point. Otherwise every step is taken and the last "
        "point counts: for points that shall fool other models too.",
    )

    def search(self) -> Search:
        from raysafe.robustness.attacks.pgd import pgd

        return pgd(self)


class CarliniWagner(Attack):
    """The least L2 distance at which the margin is crossed, by binary search over c (Carlini and Wagner 2017).

    Epsilon only says which distances count as success, and may be infinite.
    """

    attack: Literal["carlini-wagner"] = "carlini-wagner"
    steps: int = Field(default=1000, ge=1, le=100_000, description="Most Adam steps for each c.")
    searches: int = Field(default=9, ge=1, le=50, description="Values of c that are tried, for each sample its own.")
    learning_rate: float = Field(default=0.01, gt=0, le=1, description="Of Adam, in the space of the inverse tanh.")
    initial_c: float = Field(default=1e-3, gt=0, le=1e6, description="The first weight of the margin.")
    confidence: float = Field(default=0.0, ge=0, le=1e3, description="The margin of logits that is asked for.")

    def search(self) -> Search:
        from raysafe.robustness.attacks.carlini_wagner import carlini_wagner

        return carlini_wagner(self)


class APGD(Attack):
    """Projected gradient ascent that chooses its own step (Croce and Hein 2020b; in L1 2021)."""

    attack: Literal["apgd"] = "apgd"
    steps: int = Field(default=100, ge=2, le=100_000, description="Gradient steps of each restart.")
    restarts: int = Field(default=1, ge=1, le=10_000, description="Starts; later ones are of unbroken samples alone.")
    loss: Loss = Field(default="cross-entropy", description=_LOSS)

    def search(self) -> Search:
        from raysafe.robustness.attacks.apgd import apgd

        return apgd(self)


class APGDT(Attack):
    """APGD towards each of the likeliest other classes in turn (APGD-T, Croce and Hein 2020b).

    The loss is the targeted difference of logits ratio; with fewer than four classes, where that has no scale, the
    difference of logits itself.
    """

    attack: Literal["apgd-t"] = "apgd-t"
    steps: int = Field(default=100, ge=2, le=100_000, description="Gradient steps of each restart and class.")
    restarts: int = Field(default=1, ge=1, le=10_000, description="Starts of each class.")
    targets: int = Field(default=9, ge=1, le=10_000, description="Classes that are tried, the likeliest first.")

    def search(self) -> Search:
        from raysafe.robustness.attacks.apgd import apgd_t

        return apgd_t(self)


class FABT(Attack):
    """Fast adaptive boundary towards each of the likeliest other classes (FAB-T, Croce and Hein 2020a).

    It looks for the nearest point beyond the boundary: with epsilon infinite, `distance` is the least that it found.
    """

    attack: Literal["fab-t"] = "fab-t"
    steps: int = Field(default=100, ge=1, le=100_000, description="Steps for each class.")
    targets: int = Field(default=9, ge=1, le=10_000, description="Classes that are tried, the likeliest first.")
    most_bias: float = Field(default=0.1, ge=0, le=1, description="Greatest pull towards the sample in a step.")
    overshoot: float = Field(default=1.05, ge=1, le=2, description="How far a step goes beyond the boundary.")
    backward: float = Field(default=0.9, gt=0, lt=1, description="Part of the way kept when stepping back.")

    def search(self) -> Search:
        from raysafe.robustness.attacks.fab import fab_t

        return fab_t(self)


class Square(Attack):
    """Random search by squares, of predictions alone (Andriushchenko et al. 2020): it needs no gradient."""

    attack: Literal["square"] = "square"
    steps: int = Field(default=5000, ge=1, le=1_000_000, description="Forward passes of each restart.")
    restarts: int = Field(default=1, ge=1, le=10_000, description="Starts; later ones are of unbroken samples alone.")
    first_share: float = Field(default=0.8, gt=0, le=1, description="Part of the image that the first squares cover.")

    def search(self) -> Search:
        from raysafe.robustness.attacks.square import square

        return square(self)


class AutoAttack(Attack):
    """APGD, APGD-T, FAB-T and Square in turn, each on what the earlier ones left (standard version, 2020b)."""

    attack: Literal["autoattack"] = "autoattack"
    steps: int = Field(default=100, ge=2, le=100_000, description="Gradient steps of APGD, APGD-T and FAB-T.")
    targets: int = Field(default=9, ge=1, le=10_000, description="Classes that APGD-T and FAB-T try.")
    square_steps: int = Field(default=5000, ge=1, le=1_000_000, description="Forward passes of Square.")

    @property
    def parts(self) -> tuple[Attack, ...]:
        return (
            APGD(steps=self.steps, seed=self.seed),
            APGDT(steps=self.steps, targets=self.targets, seed=self.seed),
            FABT(steps=self.steps, targets=self.targets, seed=self.seed),
            Square(steps=self.square_steps, seed=self.seed),
        )

    def search(self) -> Search:
        from raysafe.robustness.attacks.autoattack import in_turn

        return in_turn(self.parts)


class Transfer(Attack):
    """What an attack makes of another model's samples, tried on this one: its queries are two forward passes."""

    attack: Literal["transfer"] = "transfer"
    surrogate: str = Field(min_length=1, description="Folder of the classifier that is attacked in place of the model.")
    by: FGSM | PGD | APGD = Field(
        default=PGD(momentum=1.0, early_exit=False), discriminator="attack", description="The attack on the surrogate."
    )

    def search(self) -> Search:
        from raysafe.models.classifier import load_classifier
        from raysafe.robustness.attacks.transfer import transfer

        return transfer(self.by, load_classifier(self.surrogate))


AnyAttack = Annotated[
    FGSM | PGD | CarliniWagner | APGD | APGDT | FABT | Square | AutoAttack | Transfer, Field(discriminator="attack")
]
"""The type of a config's field that names an attack."""

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "carlini-wagner": CarliniWagner,
    "apgd": APGD,
    "apgd-t": APGDT,
    "fab-t": FABT,
    "square": Square,
    "autoattack": AutoAttack,
    "transfer": Transfer,
}
