"""Settings of the suites on classifiers' generalisation; nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from raysafe.config import Config


class SuiteSettings(Config):
    """What only one suite reads."""

    def decisive(self, digests: Mapping[str, str]) -> str:
        """All that decides a figure, as JSON; other models by their digests, as a path says nothing."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


class ShiftSettings(SuiteSettings):
    """How data are compared with those of the training's origin."""

    space: Literal["inputs", "features", "probabilities"] = Field(
        default="features",
        description="What is compared: inputs as they are, what the last layer reads, or probabilities.",
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="How often a test may find a shift where there is none.")
    permutations: int = Field(default=499, ge=19, description="Random splits that a p-value is a rank among.")
    sample: int = Field(default=500, ge=20, description="Most examples of either side in a test.")
    null_splits: int = Field(
        default=200, ge=20, description="Splits of the source into two, on which false positives are counted."
    )
    neighbours: int = Field(default=10, ge=1, description="knn: the distance to so many-th nearest example counts.")
    correction: Literal["westfall-young", "holm", "bonferroni"] = Field(
        default="westfall-young",
        description="Of the Kolmogorov-Smirnov tests of single features: by permutations, exact; or always cautious.",
    )


class CalibrationSettings(SuiteSettings):
    """How probabilities are examined, and mended."""

    share: float = Field(
        default=0.5, gt=0, lt=1, description="Of the data: fits temperature and sets; the rest judges them."
    )
    bins: int = Field(default=15, ge=2, description="Bins of the errors of calibration.")
    alpha: float = Field(default=0.1, gt=0, lt=1, description="How often a set may miss the label.")
    penalty: float = Field(default=0.01, ge=0, description="raps: added for each label behind the free ones.")
    free: int = Field(default=1, ge=0, description="raps: labels that cost no penalty.")
    save: str | None = Field(
        default=None,
        description="Folder for the model with its temperature in the last layer, to serve like any other.",
    )

    def decisive(self, digests: Mapping[str, str]) -> str:
        return json.dumps(self.model_dump(mode="json", exclude={"save"}), sort_keys=True)


class StabilitySettings(SuiteSettings):
    """What is changed, and how slices are searched."""

    models: tuple[str, ...] = Field(default=(), description="Models of the same training with other seeds.")
    noise: float = Field(
        default=0.05, gt=0, description="Gaussian, in units of pixels (0 to 1), or of features' standard deviations."
    )
    brightness: float = Field(
        default=0.1, gt=0, lt=1, description="Added to pixels, taken off them, and off the contrast."
    )
    pixels: int = Field(default=1, ge=1, description="Images are moved by so many pixels to each side.")
    depth: int = Field(default=2, ge=1, le=4, description="Most conditions of a slice.")
    beam: int = Field(default=20, ge=1, description="Slices of each depth that are extended.")
    least: int = Field(default=20, ge=5, description="Fewest cases of a slice, in the half that is searched.")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="How often a slice may be confirmed where none is bad.")

    def decisive(self, digests: Mapping[str, str]) -> str:
        values = self.model_dump(mode="json") | {"models": [digests.get(model, model) for model in self.models]}
        return json.dumps(values, sort_keys=True)
