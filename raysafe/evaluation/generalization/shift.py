"""shift: do the data differ from those of the training's origin, and which examples look strange to the model?

Tests of two samples say whether anything changed, scores which example is strange. Every test is also run on splits of
the source itself, where it may find a shift in a share alpha of them only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raysafe.errors import DataError
from raysafe.evaluation.generalization.classifier import digest, labelled_for, reader
from raysafe.evaluation.suites import Figure, Findings
from raysafe.generalization.ood_scores import SCORES, Scorer
from raysafe.generalization.representation import Represented
from raysafe.generalization.shift import Pool, ShiftTests, null_splits
from raysafe.generalization.two_sample import TwoSampleTest
from raysafe.models.roc import auroc, conformal_threshold
from raysafe.records.statistics import difference_interval, wilson_interval
from raysafe.runtime.bar import Bar
from raysafe.runtime.plots import Series
from raysafe.runtime.report import Section

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob
    from raysafe.generalization.shift_statistics import Floats

__all__ = ["digest", "examine"]
SHOWN = 10


def examine(job: EvaluateJob) -> Findings:
    """Half of the source fits the scores, the other half is what the data are compared with."""
    assert job.source is not None
    source, new = labelled_for(job, job.source), labelled_for(job, job.data)
    read, settings = reader(job), job.shift
    of_source, of_new = read(source.x, "source"), read(new.x, "data")
    rng = np.random.default_rng(job.seed)
    order = rng.permutation(len(source))
    fit, held = order[: len(order) // 2], order[len(order) // 2 :]
    scorer = Scorer.fit(of_source.take(fit), source.y[fit], k=settings.neighbours)
    held_scores, new_scores = scorer.score(of_source.take(held)), scorer.score(of_new)

    size = min(settings.sample, len(held) // 2, len(new))
    if size < 20:
        raise DataError(
            f"tests of shift need 80 examples of the source and 20 of the data, got {len(source)} and {len(new)}"
        )
    # the pool: twice the sample of the source, for null splits, and one of the data
    old, fresh = np.arange(min(2 * size, len(held))), rng.permutation(len(new))[:size]
    pool = Pool(
        np.concatenate([_values(job, source.x, of_source)[held][old], _values(job, new.x, of_new)[fresh]]),
        {name: np.concatenate([held_scores[name][old], new_scores[name][fresh]]) for name in SCORES},
    )
    tests = ShiftTests(pool, permutations=settings.permutations, correction=settings.correction)
    found = {name: tests.test(name, old[:size], len(old) + np.arange(size), rng) for name in tests.names}
    with Bar("false positives", total=settings.null_splits, unit="split") as bar:
        wrong = tests.rates(
            null_splits(old, size), repetitions=settings.null_splits, alpha=settings.alpha, rng=rng, done=bar.show
        )
    limits = {name: conformal_threshold(held_scores[name], settings.alpha) for name in SCORES}
    right_held = of_source.logits_NK[held].argmax(axis=1) == source.y[held]
    predicted = of_new.logits_NK.argmax(axis=1)
    right_new = predicted == new.y
    figures = [
        *(Figure(f"{name}_p_value", test.p_value, 2 * size) for name, test in found.items()),
        *(_flagged(name, new_scores[name], limits[name]) for name in SCORES),
        *_accuracy(right_held, right_new),
        Figure("false_positives", max(wrong.values()), settings.null_splits, better="lower"),
    ]
    rows: list[dict[str, Any]] = [
        {
            "example": int(number),
            "label": new.labels[new.y[number]],
            "predicted": new.labels[predicted[number]],
            **{name: round(float(new_scores[name][number]), 6) for name in SCORES},
            "flagged by": ", ".join(name for name in SCORES if new_scores[name][number] >= limits[name]),
        }
        for number in np.argsort(-new_scores["mahalanobis"])
    ]
    summary = {
        "tests": {
            name: {"statistic": test.statistic, "p_value": test.p_value, "false positives": wrong[name]}
            for name, test in found.items()
        },
        "limits": limits,
        "examples": {"source, to fit scores": len(fit), "source, compared": len(held), "data": len(new), "test": size},
    }
    sections = [
        _tests(found, wrong, settings.alpha, size),
        _moved(found["ks"], settings.space),
        _scores(held_scores, new_scores, limits, settings.alpha),
    ]
    return Findings(figures, rows, summary, new.digest, {job.source: source.digest}, sections)


def _values(job: EvaluateJob, x: np.ndarray, found: Represented) -> Floats:
    if job.shift.space == "inputs":
        return x.reshape(len(x), -1).astype(float)
    return found.features_ND if job.shift.space == "features" else found.probabilities_NK


def _flagged(name: str, scores_N: Floats, limit: float) -> Figure:
    share = wilson_interval(int((scores_N >= limit).sum()), len(scores_N))
    return Figure(f"{name}_flagged", share.value, share.n, share.interval, "lower")


def _accuracy(right_held: np.ndarray, right_new: np.ndarray) -> list[Figure]:
    accuracy = wilson_interval(int(right_new.sum()), len(right_new))
    before = (int(right_held.sum()), len(right_held))
    lost = difference_interval(before, (int(right_new.sum()), len(right_new)))
    return [
        Figure("accuracy", accuracy.value, accuracy.n, accuracy.interval),
        Figure("accuracy_lost", lost.value, lost.n, lost.interval, "lower"),
    ]


def _tests(found: dict[str, TwoSampleTest], wrong: dict[str, float], alpha: float, size: int) -> Section:
    table: list[list[Any]] = [["test", "statistic", "p-value", "shift", "false positives"]]
    table += [
        [name, test.statistic, test.p_value, "found" if test.p_value <= alpha else "not found", wrong[name]]
        for name, test in found.items()
    ]
    text = (
        f"{size} examples of either side; false positives: the share of splits of the source itself in which the test "
        f"finds a shift, which should be {alpha:g}. Scores are tested one-sided: are new examples the stranger ones?"
    )
    return Section("Tests of shift", text, table)


def _moved(test: TwoSampleTest, space: str) -> Section:
    assert test.statistics_D is not None and test.p_values_D is not None
    order = np.argsort(-test.statistics_D)[:SHOWN]
    table: list[list[Any]] = [["feature", "Kolmogorov-Smirnov", "adjusted p-value"]]
    table += [[int(at), float(test.statistics_D[at]), float(test.p_values_D[at])] for at in order]
    return Section(f"What moved most, of {len(test.statistics_D)} {space}", "Counted from 0.", table)


def _scores(held: dict[str, Floats], new: dict[str, Floats], limits: dict[str, float], alpha: float) -> Section:
    table: list[list[Any]] = [["score", "limit", "source over it", "data over it", "AUROC"]]
    plots = {}
    for name in SCORES:
        both, is_new = (
            np.concatenate([held[name], new[name]]),
            np.arange(len(held[name]) + len(new[name])) >= len(held[name]),
        )
        over = [float((scores[name] >= limits[name]).mean()) for scores in (held, new)]
        table.append([name, limits[name], *over, auroc(both, is_new)])
        plots[name] = [
            Series(side, np.sort(scores[name]).tolist(), np.linspace(0, 1, len(scores[name])).tolist())
            for side, scores in (("source", held), ("data", new))
        ]
    text = f"A fresh example of the source is over a limit with probability {alpha:g}. Below: the shares under a score."
    return Section("Strange examples", text, table, plots)
