"""Two classifiers on the same held-out examples: forgetting (a model before and after), and negative transfer.

The examples are paired, so the difference is tested by McNemar's exact test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysafe.data.labelled import Labelled
from raysafe.evaluation.generalization.classifier import digest, labelled_for, reader
from raysafe.evaluation.suites import Figure, Findings
from raysafe.records.statistics import mcnemar, wilson_interval

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


@dataclass(frozen=True)
class Answers:
    """What a classifier takes each example for, by its own numbering of the classes."""

    labelled: Labelled
    predicted_N: NDArray[np.int64]

    @property
    def right_N(self) -> NDArray[np.bool_]:
        return self.predicted_N == self.labelled.y

    @property
    def names(self) -> list[str]:
        return [self.labelled.labels[number] for number in self.predicted_N]


def examine(job: EvaluateJob) -> Findings:
    """How much of what `reference`, the model before, could do `model` can no longer."""
    own, other = _answers(job)
    test = mcnemar(other.right_N, own.right_N)
    lost = Figure("forgotten", test.difference, test.n, (test.low, test.high), "lower")
    return _findings(job, own, other, "accuracy_before", lost, test.p_value)


def examine_transfer(job: EvaluateJob) -> Findings:
    """Whether `model` does better than `reference`, which was trained on the same rows from scratch."""
    own, other = _answers(job)
    test = mcnemar(own.right_N, other.right_N)
    gain = Figure("transfer_gain", test.difference, test.n, (test.low, test.high))
    return _findings(job, own, other, "accuracy_from_scratch", gain, test.p_value)


def _answers(job: EvaluateJob) -> tuple[Answers, Answers]:
    assert job.reference is not None
    found = []
    for model in (job.model, job.reference):
        labelled = labelled_for(job, job.data, model)
        logits_NK = reader(job, model)(labelled.x, f"predictions of {model}").logits_NK
        found.append(Answers(labelled, logits_NK.argmax(axis=1)))
    return found[0], found[1]


def _findings(
    job: EvaluateJob, own: Answers, other: Answers, other_metric: str, difference: Figure, p_value: float
) -> Findings:
    """Both accuracies, their difference, and where the models differ or fail."""
    assert job.reference is not None
    figures = []
    for metric, answers in (("accuracy", own), (other_metric, other)):
        estimate = wilson_interval(float(answers.right_N.sum()), len(answers.right_N))
        figures.append(Figure(metric, estimate.value, estimate.n, estimate.interval))
    figures += [difference, Figure("p_value", p_value, difference.n, better="lower")]
    classes = [own.labelled.labels[number] for number in own.labelled.y]
    rows = [
        {"row": row, "class": name, "model": first, "reference": second}
        for row, (name, first, second) in enumerate(zip(classes, own.names, other.names, strict=True))
        if not name == first == second
    ]
    by_class = {}
    for name in dict.fromkeys(classes):
        of_N = np.array(classes) == name
        accuracies = {"model": float(own.right_N[of_N].mean()), "reference": float(other.right_N[of_N].mean())}
        by_class[name] = {"examples": int(of_N.sum()), **accuracies}
    summary = {"test": "McNemar exact", "p_value": p_value, "classes": by_class}
    return Findings(figures, rows, summary, own.labelled.digest, {job.reference: digest(job.reference)})
