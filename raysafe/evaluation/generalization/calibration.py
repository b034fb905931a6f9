"""calibration: do the model's probabilities mean what they say, and do sets of labels cover as often as they should?

One part of the data fits a temperature and conformal sets, the other judges them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from raysafe.data.labelled import split
from raysafe.errors import ConfigError
from raysafe.evaluation.generalization.classifier import digest, labelled_for, reader
from raysafe.evaluation.suites import Figure, Findings
from raysafe.generalization.calibration import (
    brier_scores,
    chance_error,
    expected_calibration_error,
    fit_temperature,
    log_losses,
    reliability,
    squared_calibration_error,
)
from raysafe.generalization.conformal import ConformalSets, Method, coverage_interval, stratified_coverage
from raysafe.records.statistics import mean_interval, wilson_interval
from raysafe.runtime.plots import Series
from raysafe.runtime.report import Section

if TYPE_CHECKING:
    from raysafe.evaluation.generalization.settings import CalibrationSettings
    from raysafe.evaluation.job import EvaluateJob
    from raysafe.generalization.shift_statistics import Floats

__all__ = ["digest", "examine"]
METHODS: tuple[Method, ...] = get_args(Method)


def examine(job: EvaluateJob) -> Findings:
    """Figures before and after the temperature, and of sets by each method, all on data that fitted neither."""
    labelled, settings = labelled_for(job, job.data), job.calibration
    parts = split(labelled, {"fit": settings.share, "judge": 1 - settings.share}, job.seed)
    fit, judge, read = parts["fit"], parts["judge"], reader(job)
    fit_NK, judge_NK = read(fit.x, "to fit").logits_NK, read(judge.x, "to judge").logits_NK
    temperature = fit_temperature(fit_NK, fit.y)
    if settings.save is not None:
        _save(job, settings.save, temperature)
    before_NK, after_NK = (softmax(judge_NK / by, axis=1) for by in (1.0, temperature))
    predicted = judge_NK.argmax(axis=1)
    right = predicted == judge.y
    accuracy = wilson_interval(int(right.sum()), len(right))
    rng = np.random.default_rng(job.seed)
    figures = [
        Figure("accuracy", accuracy.value, accuracy.n, accuracy.interval),
        *_figures("", judge_NK, judge.y, settings.bins),
        *_figures("_scaled", judge_NK / temperature, judge.y, settings.bins),
        Figure("ece_of_chance", chance_error(after_NK.max(axis=1), rng, settings.bins), len(right), better="lower"),
        Figure("temperature", temperature, len(fit), better="lower"),
    ]
    sets: dict[str, NDArray[np.bool_]] = {}
    table: list[list[Any]] = [["method", "coverage", "mean size", "coverage by size of a set"]]
    for method in METHODS:
        fitted = ConformalSets.fit(
            method,
            softmax(fit_NK / temperature, axis=1),
            fit.y,
            settings.alpha,
            rng,
            penalty=settings.penalty,
            free=settings.free,
        )
        sets[method] = inside_NK = fitted.sets(after_NK, rng)
        covered = wilson_interval(int(inside_NK[np.arange(len(judge)), judge.y].sum()), len(judge))
        sizes = mean_interval(inside_NK.sum(axis=1))
        figures += [
            Figure(f"{method}_coverage", covered.value, covered.n, covered.interval),
            Figure(f"{method}_set_size", sizes.value, sizes.n, sizes.interval, "lower"),
        ]
        by_size = [
            f"{size}: {share:.2f} of {n}" for size, (n, share) in stratified_coverage(inside_NK, judge.y).items()
        ]
        table.append([method, covered.value, sizes.value, ", ".join(by_size)])
    low, high = coverage_interval(len(fit), len(judge), settings.alpha)
    rows: list[dict[str, Any]] = [
        {
            "example": int(number),
            "label": judge.labels[judge.y[number]],
            "predicted": judge.labels[predicted[number]],
            "confidence": round(float(before_NK[number].max()), 6),
            "confidence, scaled": round(float(after_NK[number].max()), 6),
            **{f"set, {m}": ", ".join(judge.labels[k] for k in np.flatnonzero(sets[m][number])) for m in METHODS},
        }
        for number in np.argsort(-brier_scores(after_NK, judge.y))
    ]
    summary = {
        "temperature": temperature,
        "examples": {"fit": len(fit), "judge": len(judge)},
        "coverage, expected": {"alpha": settings.alpha, "95% of calibration sets": [low, high]},
    }
    about = (
        f"Fitted on {len(fit)} examples, judged on {len(judge)}. A set misses the label in {settings.alpha:g} of all "
        f"cases at most, on average over data that fit it; for 95% of such data, between {low:.3f} and {high:.3f} of "
        "the judging examples are covered, where scores have no ties."
    )
    sections = [_diagram(before_NK, after_NK, right, temperature, settings), Section("Sets of labels", about, table)]
    return Findings(figures, rows, summary, labelled.digest, sections=sections)


def _figures(suffix: str, logits_NK: Floats, y_N: np.ndarray, bins: int) -> list[Figure]:
    probabilities_NK = softmax(logits_NK, axis=1)
    confidence, right = probabilities_NK.max(axis=1), probabilities_NK.argmax(axis=1) == y_N
    nll, brier = mean_interval(log_losses(logits_NK, y_N)), mean_interval(brier_scores(probabilities_NK, y_N))
    plain = {
        "ece": expected_calibration_error(confidence, right, bins),
        "ece_width": expected_calibration_error(confidence, right, bins, "width"),
        "squared_error": squared_calibration_error(confidence, right, bins),
    }
    return [
        Figure(f"nll{suffix}", nll.value, nll.n, nll.interval, "lower"),
        Figure(f"brier{suffix}", brier.value, brier.n, brier.interval, "lower"),
        *(Figure(f"{name}{suffix}", value, len(y_N), better="lower") for name, value in plain.items()),
    ]


def _diagram(
    before_NK: Floats, after_NK: Floats, right: np.ndarray, temperature: float, settings: CalibrationSettings
) -> Section:
    plots = {}
    for title, p_NK in (("As it is", before_NK), (f"At temperature {temperature:.3g}", after_NK)):
        found = reliability(p_NK.max(axis=1), right, settings.bins)
        least = float(min(found.confidence_B.min(), found.accuracy_B.min()))
        plots[title] = [
            Series("accuracy", found.confidence_B.tolist(), found.accuracy_B.tolist()),
            Series("perfect", [least, 1.0], [least, 1.0]),
        ]
    text = f"Accuracy by confidence, over {settings.bins} bins of equally many examples: below the line it is too sure."
    return Section("Reliability", text, plots=plots)


def _save(job: EvaluateJob, folder: str, temperature: float) -> None:
    from pathlib import Path

    from raysafe.generalization.temperature import scale_logits
    from raysafe.models.classifier import load_classifier, save_classifier
    from raysafe.models.language import model_folder

    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise ConfigError(f"calibration.save: {folder} is not empty: give a new folder")
    model = load_classifier(model_folder(job.model))
    scale_logits(model, temperature)
    save_classifier(model, folder)
