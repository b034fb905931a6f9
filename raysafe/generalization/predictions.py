"""What a classifier says of a table's rows, and its figures of groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from raysafe.data.grouped import Grouped
from raysafe.errors import ConfigError
from raysafe.generalization.fairness import Fairness, fairness
from raysafe.models.classifier import load_classifier
from raysafe.records.statistics import Estimate, wilson_interval

ROWS = 4096


@dataclass(frozen=True)
class Predictions:
    """A model's probabilities (N, K), and what was right."""

    probabilities_NK: NDArray[np.floating]
    y_N: NDArray[np.int64]
    labels: tuple[str, ...]

    @property
    def accuracy(self) -> Estimate:
        right = self.probabilities_NK.argmax(axis=1) == self.y_N
        return wilson_interval(int(right.sum()), len(right))

    def by_group(self, groups_N: NDArray[np.str_], favourable: str, *, smallest: int = 1) -> Fairness:
        """Figures of being classed as favourable."""
        place = place_of(favourable, self.labels)
        return fairness(
            self.probabilities_NK.argmax(axis=1) == place,
            self.y_N == place,
            groups_N,
            probabilities_N=self.probabilities_NK[:, place],
            smallest=smallest,
        )


@torch.no_grad()
def predict(folder: str | Path, grouped: Grouped) -> Predictions:
    """The classifier in a folder on these rows."""
    model = load_classifier(folder)
    x_ND = torch.from_numpy(grouped.labelled.x)
    parts = [model(x_BD).double().softmax(dim=1).numpy() for x_BD in x_ND.split(ROWS)]
    return Predictions(np.concatenate(parts), grouped.labelled.y, grouped.labelled.labels)


def place_of(favourable: str, labels: tuple[str, ...]) -> int:
    """The class's number; raises ConfigError."""
    if favourable not in labels:
        raise ConfigError(f"favourable '{favourable}' is not one of the classes {', '.join(labels)[:300]}")
    return labels.index(favourable)
