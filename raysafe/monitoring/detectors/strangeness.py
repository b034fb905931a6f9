"""Charts of how strange inputs look to a model: of a score of each row, its moving average, watched for a rise.

The scores are those of generalization/ood_scores.py. Rows are logits (msp, energy_score), or features, or anything else
of a fixed length (mahalanobis, knn); these two are fitted to some of the calibration rows, limits come of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Self

import numpy as np
from pydantic import Field

from raysafe.errors import ConfigError
from raysafe.generalization.ood_scores import Mahalanobis, NearestNeighbours, energy_score, msp
from raysafe.monitoring.detectors.chart import ChartConfig, Floats
from raysafe.monitoring.detectors.ewma import EwmaChart, EwmaConfig

Row = tuple[float, ...]
_LIMIT_ROWS = 200


class StrangenessConfig(ChartConfig):
    """What the kinds have in common."""

    weight: float = Field(default=0.1, gt=0, le=1, description="Of the newest score in the average; 1: each by itself.")

    def needed(self, average_run_length: float) -> int:
        return _LIMIT_ROWS

    def chart(self, references_RN: Floats) -> EwmaChart:
        return EwmaConfig(weight=self.weight, side="high").chart(references_RN)

    def fitted(self, values: Floats | Sequence[str]) -> tuple[Self, Floats]:
        """The settings with the fitted score, and the scores of the rows that it wasn't fitted to."""
        rows_ND = np.asarray(values)
        if rows_ND.dtype.kind not in "bifu" or rows_ND.ndim != 2:
            raise ConfigError(
                f"a detector of the kind {self.kind} takes rows of numbers, got values of shape {rows_ND.shape}: "
                "watch single numbers with ewma, cusum or ks"
            )
        if not np.isfinite(rows_ND).all():
            raise ConfigError("calibration data hold values that are not finite: leave them out")
        config, rest_ND = self.learned(rows_ND.astype(float))
        return config, config.scores(rest_ND)

    def learned(self, rows_ND: Floats) -> tuple[Self, Floats]:
        """The settings with what is fitted to some of the rows, and the other rows."""
        return self, rows_ND

    def coded(self, value: float | str | Floats) -> Floats:
        """A row's score; raises ValueError for what is no such row."""
        row_D = np.asarray(value, float)
        if row_D.ndim != 1 or not np.isfinite(row_D).all():
            raise ValueError(f"a detector of the kind {self.kind} takes rows of finite numbers, got {value!r}")
        return self.scores(row_D[None])[0]

    def scores(self, rows_ND: Floats) -> Floats:
        """(N,); larger for what is stranger."""
        raise NotImplementedError(f"{type(self).__name__} defines no score")


class MspConfig(StrangenessConfig):
    """`kind: msp`: a classifier that grows less sure; rows are logits (or logarithms of probabilities)."""

    kind: Literal["msp"] = "msp"

    def scores(self, rows_ND: Floats) -> Floats:
        return msp(rows_ND)


class EnergyScoreConfig(StrangenessConfig):
    """`kind: energy_score`: logits that grow smaller as a whole; blind to inputs that the model is wrongly sure of."""

    kind: Literal["energy_score"] = "energy_score"

    def scores(self, rows_ND: Floats) -> Floats:
        return energy_score(rows_ND)


class FittedConfig(StrangenessConfig):
    """A score that is fitted to calibration rows."""

    reference: int = Field(default=500, ge=20, le=5000, description="Calibration rows that the score is fitted to.")

    def needed(self, average_run_length: float) -> int:
        return _LIMIT_ROWS + (0 if self.is_fitted else self.reference)

    def learned(self, rows_ND: Floats) -> tuple[Self, Floats]:
        if self.is_fitted:
            return self, rows_ND
        if len(rows_ND) < (needed := self.needed(0)):
            raise ConfigError(
                f"a detector of the kind {self.kind} needs {needed:,} calibration values, of which reference "
                f"({self.reference:,}) fit its score and the others set its limit, got {len(rows_ND):,}"
            )
        # evenly over the stream, so that a slow change is in both parts
        chosen = np.linspace(0, len(rows_ND) - 1, self.reference).round().astype(int)
        return self.fit(rows_ND[chosen]), np.delete(rows_ND, chosen, axis=0)

    @property
    def is_fitted(self) -> bool:
        raise NotImplementedError(f"{type(self).__name__} doesn't say whether it is fitted")

    def fit(self, rows_ND: Floats) -> Self:
        raise NotImplementedError(f"{type(self).__name__} defines no fit")

    def checked(self, rows_ND: Floats, width: int) -> Floats:
        """Raises ValueError where the rows aren't as long as those that it was fitted to."""
        if rows_ND.shape[1] != width:
            raise ValueError(f"the detector {self.kind} was fitted to rows of {width}, got one of {rows_ND.shape[1]}")
        return rows_ND


class MahalanobisConfig(FittedConfig):
    """`kind: mahalanobis`: rows that lie far off in a direction in which rows hardly vary."""

    kind: Literal["mahalanobis"] = "mahalanobis"
    mean: Row | None = Field(default=None, description="Set by calibration.")
    precision: tuple[Row, ...] | None = Field(default=None, description="Set by calibration.")

    @property
    def is_fitted(self) -> bool:
        return self.mean is not None and self.precision is not None

    def fit(self, rows_ND: Floats) -> Self:
        found = Mahalanobis.fit(rows_ND)
        precision = tuple(map(tuple, found.precision_DD.tolist()))
        return self.model_copy(update={"mean": tuple(found.means_KD[0].tolist()), "precision": precision})

    def scores(self, rows_ND: Floats) -> Floats:
        return self._distance.score(self.checked(rows_ND, self._distance.means_KD.shape[1]))

    @cached_property
    def _distance(self) -> Mahalanobis:
        return Mahalanobis(np.array([self.mean]), np.array(self.precision))


class KnnConfig(FittedConfig):
    """`kind: knn`: rows whose direction is far from that of all that are known."""

    kind: Literal["knn"] = "knn"
    neighbours: int = Field(default=10, ge=1, description="The distance to so many-th nearest row counts.")
    bank: tuple[Row, ...] | None = Field(default=None, description="Set by calibration.")

    @property
    def is_fitted(self) -> bool:
        return self.bank is not None

    def fit(self, rows_ND: Floats) -> Self:
        found = NearestNeighbours.fit(rows_ND, self.neighbours)
        return self.model_copy(update={"bank": tuple(map(tuple, found.bank_ND.tolist()))})

    def scores(self, rows_ND: Floats) -> Floats:
        return self._near.score(self.checked(rows_ND, self._near.bank_ND.shape[1]))

    @cached_property
    def _near(self) -> NearestNeighbours:
        return NearestNeighbours(np.array(self.bank), self.neighbours)
