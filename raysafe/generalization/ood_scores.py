"""How unlike its training data each input looks to a classifier: four scores, all larger the stranger it is.

Each sees another kind of shift: confidence and energy read the logits alone, the others the features that the last
layer reads. None is a probability; a limit comes of held-out data (`models.roc.conformal_threshold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from raysafe.errors import DataError
from raysafe.generalization.representation import Represented
from raysafe.generalization.shift_statistics import Floats, squared_distances

SCORES = ("msp", "energy_score", "mahalanobis", "knn")
_ROWS = 512


def msp(logits_NK: Floats) -> Floats:
    """1 less the maximum softmax probability (Hendrycks and Gimpel 2017), (N,)."""
    return 1.0 - softmax(logits_NK, axis=1).max(axis=1)


def energy_score(logits_NK: Floats, temperature: float = 1.0) -> Floats:
    """The free energy -T log sum exp(logits / T) (Liu et al. 2020, equation 4), (N,)."""
    return -temperature * np.asarray(logsumexp(logits_NK / temperature, axis=1))


@dataclass(frozen=True)
class Mahalanobis:
    """The squared Mahalanobis distance to the nearest class, whose covariance all share (Lee et al. 2018, eq. 1-2).

    The covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004), as features may be constant, or
    more than there are examples.
    """

    means_KD: Floats
    precision_DD: Floats

    @classmethod
    def fit(cls, features_ND: Floats, y_N: NDArray[np.int64] | None = None) -> Self:
        """y_N: classes; without them all are one. A class without examples has no part."""
        classes_N = np.zeros(len(features_ND), np.int64) if y_N is None else y_N
        found = np.unique(classes_N)
        if len(features_ND) <= len(found):
            raise DataError(
                f"a covariance within {len(found)} classes needs more examples than classes, got {len(features_ND)}"
            )
        means_KD = np.stack([features_ND[classes_N == label].mean(axis=0) for label in found])
        centred_ND = features_ND - means_KD[np.searchsorted(found, classes_N)]
        covariance_DD = ledoit_wolf(centred_ND)
        if not covariance_DD.any():
            raise DataError("the features are the same in all examples of a class: no distance can be scaled by them")
        return cls(means_KD, np.linalg.inv(covariance_DD).astype(np.float64))

    def score(self, features_ND: Floats) -> Floats:
        root_DD = np.linalg.cholesky(self.precision_DD)
        return squared_distances(features_ND @ root_DD, self.means_KD @ root_DD).min(axis=1)


@dataclass(frozen=True)
class NearestNeighbours:
    """The distance to the k-th nearest of the training features, all scaled to length 1 (Sun et al. 2022)."""

    bank_ND: Floats
    k: int

    @classmethod
    def fit(cls, features_ND: Floats, k: int = 10) -> Self:
        if not 1 <= k <= len(features_ND):
            raise DataError(f"the {k}-th nearest neighbour needs so many examples or more, got {len(features_ND)}")
        return cls(unit(features_ND), k)

    def score(self, features_ND: Floats) -> Floats:
        found = [
            np.partition(squared_distances(unit(features_ND[start : start + _ROWS]), self.bank_ND), self.k - 1, axis=1)
            for start in range(0, len(features_ND), _ROWS)
        ]
        return np.sqrt(np.concatenate([part_BN[:, self.k - 1] for part_BN in found]))


@dataclass(frozen=True)
class Scorer:
    """All four scores, fitted to a sample of the training distribution."""

    mahalanobis: Mahalanobis
    neighbours: NearestNeighbours

    @classmethod
    def fit(cls, found: Represented, y_N: NDArray[np.int64], *, k: int = 10) -> Self:
        return cls(Mahalanobis.fit(found.features_ND, y_N), NearestNeighbours.fit(found.features_ND, k))

    def score(self, found: Represented) -> dict[str, Floats]:
        """By the names in SCORES, (N,) each."""
        return {
            "msp": msp(found.logits_NK),
            "energy_score": energy_score(found.logits_NK),
            "mahalanobis": self.mahalanobis.score(found.features_ND),
            "knn": self.neighbours.score(found.features_ND),
        }


def ledoit_wolf(centred_ND: Floats) -> Floats:
    """The covariance of rows whose mean is 0, shrunk by the amount that is best asymptotically (their section 3.2)."""
    size, width = centred_ND.shape
    sample_DD = centred_ND.T @ centred_ND / size
    mean = np.trace(sample_DD) / width
    spread = (sample_DD**2).sum() - width * mean**2
    noise = (((centred_ND**2).sum(axis=1) ** 2).sum() / size - (sample_DD**2).sum()) / size
    shrinkage = min(max(noise / spread, 0.0), 1.0) if spread > 0 else 1.0
    return (1 - shrinkage) * sample_DD + shrinkage * mean * np.eye(width)


def unit(features_ND: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros stays one."""
    lengths_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.where(lengths_N1 > 0, lengths_N1, 1.0)
