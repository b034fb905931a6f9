"""How often a classifier is right, case by case."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysafe.data.labelled import Labelled
from raysafe.errors import DataError
from raysafe.generalization.layers import Classifier
from raysafe.generalization.representation import represent
from raysafe.models.classifier import input_shape, labels_of, load_classifier
from raysafe.runtime.run import Run


def right(model: Classifier, labelled: Labelled, among: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """(N,): whether the likeliest class is the right one; among: the only classes that compete, by number."""
    check_data(model, labelled)
    logits_NK = represent(model, labelled.x).logits_NK
    if among is not None:
        hidden = np.setdiff1d(np.arange(logits_NK.shape[1]), list(among))
        logits_NK[:, hidden] = -np.inf
    return logits_NK.argmax(axis=1) == labelled.y


def check_data(model: Classifier, labelled: Labelled) -> None:
    """Raise DataError where the data's classes or inputs are not the model's."""
    if labels_of(model) != labelled.labels:
        raise DataError(
            f"the model tells {', '.join(labels_of(model))} apart, the data have {', '.join(labelled.labels)}: "
            "give data with the model's classes, in their order"
        )
    if input_shape(model) != labelled.x.shape[1:]:
        raise DataError(
            f"the model takes inputs of {input_shape(model)}, the data's are {labelled.x.shape[1:]}: set size, where "
            "they are images"
        )


def model_of(run: Run, name: str) -> Classifier:
    """A classifier that the run has left in a folder of it."""
    with tempfile.TemporaryDirectory(prefix="raysafe-classifier-") as folder:
        run.folder.download(name, folder)
        return load_classifier(Path(folder))
