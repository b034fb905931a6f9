"""Settings of transfer, apart from what does it: so that help needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.models.lora_config import LoraConfig
from raysafe.runtime.learner import FitConfig

Method = Literal["full", "frozen", "gradual", "discriminative", "lora", "source", "coral", "mmd", "dann"]
ADAPTING = ("source", "coral", "mmd", "dann")
"""Methods that learn the source's labels, and see no more than the inputs of the target (source: not even them)."""


class TransferFit(FitConfig):
    """How the network is trained."""

    epochs: int = Field(default=20, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(default=64, ge=1, description="Rows per optimiser step, over all workers.")
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)


class Gradual(Config):
    """Layers are trained from the last one down (Howard and Ruder 2018).

    Only weights wait: what batch normalisation has seen of the target counts from the first step.
    """

    unfrozen_at: float = Field(default=0.5, gt=0, lt=1, description="Share of the steps at which all are trained.")


class Discriminative(Config):
    """A rate for each layer (Howard and Ruder 2018)."""

    decay: float = Field(
        default=0.4, gt=0, le=1, description="Each layer learns at so many times the rate of the one above it."
    )


class Adaptation(Config):
    """How the target's features are brought to the source's."""

    weight: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Of the domains' loss beside the classes'."
    )
    widths: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(0.25, 0.5, 1.0, 2.0, 4.0),
        min_length=1,
        description="mmd: of the kernels, as multiples of the median squared distance.",
    )
    hidden: int = Field(default=64, ge=1, le=1 << 16, description="dann: units of the domain classifier.")
    steepness: float = Field(
        default=10.0, gt=0, allow_inf_nan=False, description="dann: how fast the reversed gradient comes in."
    )


class Comparison(Config):
    """Trained beside it from scratch, on the same rows with the same settings: did transfer help?"""

    seeds: int = Field(
        default=5, ge=2, le=100, description="Pairs of trainings; each has its own split, order and first weights."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of the interval of the mean difference.")


class TransferSettings(Config):
    """What is trained, and on what."""

    method: Method = Field(
        description="full, frozen (the last layer only), gradual, discriminative or lora, on the target's labels; "
        "coral, mmd or dann, on the source's labels and the target's inputs; source, their control, on the source."
    )
    model: str | None = Field(
        default=None, description="Classifier to start from: a folder or a finished run. A small new one by default."
    )
    data: str = Field(
        description="The target: digits, mnist, a folder with a folder of images for each class, .npz (x, y), a table "
        "with a label column, or a hub id."
    )
    source: str | None = Field(default=None, description="source, coral, mmd, dann: labelled data of the other domain.")
    size: tuple[int, int] | None = Field(
        default=None, description="Bring all images to this height and width first; by averaging where they shrink."
    )
    limit: int | None = Field(default=None, ge=1, description="Read this many of the target's examples only.")
    train_limit: int | None = Field(
        default=None, ge=1, description="Train on this many of them only; the other parts of the split stay whole."
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the target that chooses the best checkpoint, if its labels may."
    )
    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="Share that nothing is learned or chosen by.")
    gradual: Gradual | None = Field(default=None, description="Settings of gradual.")
    discriminative: Discriminative | None = Field(default=None, description="Settings of discriminative.")
    lora: LoraConfig | None = Field(default=None, description="Settings of lora; the last layer is trained whole.")
    adaptation: Adaptation | None = Field(default=None, description="Settings of coral, mmd and dann.")
    comparison: Comparison | None = Field(default=None, description="Also train from scratch: did transfer hurt?")
    training: TransferFit = TransferFit()

    @property
    def adapts(self) -> bool:
        """Whether the target's labels are left alone."""
        return self.method in ADAPTING

    @property
    def measures(self) -> tuple[str, ...]:
        """Figures of a step, besides the loss."""
        domains = {"coral": ("coral",), "mmd": ("mmd",), "dann": ("domain_loss", "domain_accuracy")}
        return ("accuracy", *domains.get(self.method, ()))

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        own = {"gradual": ("gradual",), "discriminative": ("discriminative",), "lora": ("lora",)}
        for name, methods in (own | {"adaptation": ("coral", "mmd", "dann")}).items():
            if getattr(self, name) is not None and self.method not in methods:
                raise ValueError(f"{name} has no effect with method {self.method}: leave it out")
        if self.adapts != (self.source is not None):
            wanted = "needs source, whose labels it learns" if self.adapts else "reads no source: leave it out"
            raise ValueError(f"method {self.method} {wanted}")
        if not self.adapts and self.model is None:
            raise ValueError(f"method {self.method} needs model, the classifier to start from")
        if self.comparison is not None and self.adapts:
            raise ValueError(
                f"comparison has no effect with method {self.method}, which has no labels to train from scratch on: "
                "compare it with a run of method source"
            )
        if self.adapts and self.validation_fraction != type(self).model_fields["validation_fraction"].default:
            raise ValueError(f"validation_fraction has no effect with method {self.method}, which keeps the last model")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g} leave no "
                "rows to train on: their sum must be below 1"
            )
        known = ("loss", *self.measures)
        if self.training.monitor not in known:
            raise ValueError(
                f"training.monitor '{self.training.monitor}' is not measured here; choose one of {', '.join(known)}"
            )
        if self.training.sharding == "fsdp":
            raise ValueError("training.sharding must be ddp: these networks are small, and layers are told apart")
        return self
