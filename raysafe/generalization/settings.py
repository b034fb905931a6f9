"""Settings of the trainings in this room, apart from what does the work: so that help needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.runtime.learner import FitConfig

Grouping = Literal["inputs", "outputs"]
Criterion = Literal["demographic-parity", "equal-opportunity", "equalised-odds"]
Activation = Literal["relu", "tanh", "silu", "gelu", "elu"]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, lt=1)]


class Regularisation(Config):
    """Weights of the penalties that are added to the mean loss; 0 leaves one out."""

    l1: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Weight of sum |w|: zeros in the weights.")
    l2: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Weight of sum w^2 / 2 (elastic net with l1)."
    )
    group_lasso: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Weight of sum sqrt(size) |group|: whole groups at zero."
    )
    grouping: Grouping = Field(
        default="inputs", description="Groups: what goes out of one input of a layer, or into one output."
    )
    first_layer: bool = Field(
        default=False, description="l1 and group_lasso on the first layer alone, where inputs are the data's features."
    )
    spectral: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Weight of sum (largest singular value)^2 / 2."
    )
    jacobian: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Weight of |d logits / d inputs|^2 / 2, the mean over rows."
    )
    projections: int = Field(default=1, ge=1, description="Random directions that estimate the Jacobian's norm.")
    proximal: bool = Field(
        default=True, description="l1 and group_lasso by proximal steps, to exact zeros; else as part of the loss."
    )

    @property
    def shrinks(self) -> bool:
        """Whether proximal steps are taken."""
        return self.proximal and (self.l1 > 0 or self.group_lasso > 0)


class FairTraining(Config):
    """What is equalised between groups, and how: by a penalty, or by a constraint."""

    criterion: Criterion = Field(
        default="demographic-parity", description="demographic-parity, equal-opportunity, or equalised-odds."
    )
    penalty: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Weight of the mean squared difference in probability."
    )
    tolerance: float | None = Field(
        default=None, ge=0, lt=1, description="Constraint: the widest difference in decisions that is allowed."
    )
    ascent_rate: float = Field(
        default=0.2, gt=0, allow_inf_nan=False, description="What a multiplier gains in a step, times the excess."
    )
    damping: float = Field(
        default=10.0, ge=0, allow_inf_nan=False, description="What it is above that while there is excess, times that."
    )
    memory: float = Field(
        default=0.9, ge=0, lt=1, description="Decay of the running average of differences, whose excess is meant."
    )
    most: float = Field(default=10.0, gt=0, allow_inf_nan=False, description="The largest multiplier.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.penalty and self.tolerance is not None:
            raise ValueError("penalty and tolerance are two ways to the same end: set one of them, the other to none")
        return self

    @property
    def active(self) -> bool:
        return self.penalty > 0 or self.tolerance is not None


class Front(Config):
    """Several trainings, from unconstrained to strictly fair, of which one is kept by a stated rule.

    An unconstrained model is always among them. Kept is, on validation rows, the most accurate whose gap (in the
    criterion's decisions) is at most `largest_gap`; where there is none, the one with the smallest gap.
    """

    penalties: tuple[Weight, ...] = Field(default=(1.0, 3.0, 10.0, 30.0), description="Weights of the penalty to try.")
    tolerances: tuple[Tolerance, ...] = Field(default=(), description="Tolerances of the constraint to try.")
    largest_gap: float = Field(default=0.05, ge=0, le=1, description="Gap on validation rows that is let pass.")

    @model_validator(mode="after")
    def _several(self) -> Self:
        if not self.penalties and not self.tolerances:
            raise ValueError("a front needs penalties or tolerances to try")
        return self


class ClassifierFit(FitConfig):
    """How the network is trained."""

    epochs: int = Field(default=40, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(default=256, ge=1, description="Rows per optimiser step, over all workers.")
    learning_rate: float = Field(default=3e-3, gt=0, allow_inf_nan=False)
    micro_tokens: int = Field(default=1 << 16, ge=1, description="Rows per forward pass on one worker.")
