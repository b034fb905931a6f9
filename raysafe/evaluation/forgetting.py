"""Two models on the same held-out examples: forgetting (a model before and after), and negative transfer.

The examples are paired, so the difference is tested by McNemar's exact test.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raysafe.data.labelled import Labelled, load_labelled
from raysafe.data.labelled_rows import input_column, inputs_of
from raysafe.evaluation.suites import Figure, Findings
from raysafe.generalization.accuracy import check_data
from raysafe.generalization.representation import represent
from raysafe.models.classifier import load_classifier
from raysafe.models.language import model_folder
from raysafe.records.digest import folder_digest
from raysafe.records.statistics import mcnemar, wilson_interval
from raysafe.runtime.pool import parallel_map

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


def examine(job: EvaluateJob) -> Findings:
    """How much of what `reference`, the model before, could do `model` can no longer."""
    return _compared(job, "accuracy_before", "forgotten")


def examine_transfer(job: EvaluateJob) -> Findings:
    """Whether `model` does better than `reference`, which was trained on the same rows from scratch."""
    return _compared(job, "accuracy_from_scratch", "transfer_gain")


def digest(model: str) -> str:
    """sha256 of a classifier's folder."""
    return folder_digest(model_folder(model))


class Predictor:
    """Appends the column `predicted` to rows of inputs; holds one loaded classifier."""

    def __init__(self, model: str, shape: tuple[int, ...]) -> None:
        self.model, self.shape = load_classifier(model_folder(model)), shape

    def __call__(self, rows: pa.Table) -> pa.Table:
        logits_NK = represent(self.model, inputs_of(rows, "x", self.shape).numpy()).logits_NK
        return pa.table({"predicted": logits_NK.argmax(axis=1)})


def predictions(job: EvaluateJob, model: str, labelled: Labelled) -> np.ndarray:
    """(N,): the class that the model takes each example for, by the job's actors."""
    check_data(load_classifier(model_folder(model)), labelled)
    rows = pa.table({"x": input_column(labelled.x)})
    make = partial(Predictor, model, labelled.x.shape[1:])
    found = parallel_map(make, rows, needs=job.needs, description="predictions", address=job.address)
    return found["predicted"].to_numpy()


def _compared(job: EvaluateJob, other_metric: str, difference_metric: str) -> Findings:
    assert job.reference is not None
    labelled = load_labelled(job.data, limit=job.limit)
    own_N, other_N = (predictions(job, model, labelled) for model in (job.model, job.reference))
    right_N, other_right_N = own_N == labelled.y, other_N == labelled.y
    own, other = (wilson_interval(float(found.sum()), len(found)) for found in (right_N, other_right_N))
    lost = difference_metric == "forgotten"
    test = mcnemar(other_right_N, right_N) if lost else mcnemar(right_N, other_right_N)
    figures = [
        Figure("accuracy", own.value, own.n, own.interval),
        Figure(other_metric, other.value, other.n, other.interval),
        Figure(difference_metric, test.difference, test.n, (test.low, test.high), "lower" if lost else "higher"),
        Figure("p_value", test.p_value, test.n, better="lower"),
    ]
    names = labelled.labels
    rows = [
        {"row": row, "class": names[y], "model": names[one], "reference": names[two]}
        for row, (y, one, two) in enumerate(zip(labelled.y, own_N, other_N, strict=True))
        if one != two or one != y
    ]
    per_class = {
        name: {
            "examples": int(of.sum()),
            "model": float(right_N[of].mean()),
            "reference": float(other_right_N[of].mean()),
        }
        for name, of in ((name, labelled.y == number) for number, name in enumerate(names))
        if of.any()
    }
    summary = {"test": test.method, "p_value": test.p_value, "classes": per_class}
    return Findings(figures, rows, summary, labelled.digest, {job.reference: digest(job.reference)})
