"""stability: do predictions hold under other seeds and small changes, and where is the model worst?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raysafe.evaluation.generalization.classifier import digest, labelled_for, reader
from raysafe.evaluation.suites import Figure, Findings
from raysafe.generalization.slices import Attribute, Slice, feature_attributes, image_attributes, worst_slices
from raysafe.generalization.stability import Multiplicity, feature_changes, image_changes, multiplicity
from raysafe.records.statistics import Estimate, mean_interval, wilson_interval
from raysafe.runtime.bar import Bar
from raysafe.runtime.report import Section

if TYPE_CHECKING:
    from raysafe.data.labelled import Labelled
    from raysafe.evaluation.job import EvaluateJob

__all__ = ["digest", "examine"]


def examine(job: EvaluateJob) -> Findings:
    """Seeds where job.stability.models names any, changes and slices always."""
    labelled, settings = labelled_for(job, job.data), job.stability
    read, rng = reader(job), np.random.default_rng(job.seed)
    predicted = read(labelled.x, "predictions").logits_NK.argmax(axis=1)
    wrong = predicted != labelled.y
    accuracy = wilson_interval(int((~wrong).sum()), len(wrong))
    figures, sections = [Figure("accuracy", accuracy.value, accuracy.n, accuracy.interval)], []
    models = {}
    if settings.models:
        others = [
            reader(job, model)(labelled_for(job, job.data, model).x, model).logits_NK for model in settings.models
        ]
        models = {model: digest(model) for model in settings.models}
        labels = np.stack([predicted, *(logits.argmax(axis=1) for logits in others)])
        found = multiplicity(labels, labelled.y)
        figures += _seeds(found, (labels == labelled.y).mean(axis=1), len(labelled))
        sections.append(_seeds_section([job.model, *settings.models], labels, labelled.y, found))
    changed = _changes(job, labelled, predicted, read, rng)
    worst = max(changed.values(), key=lambda one: one.value)
    figures.append(Figure("changed", worst.value, worst.n, worst.interval, "lower"))
    sections.append(_changes_section(changed))
    slices = worst_slices(
        _attributes(labelled),
        wrong,
        rng=rng,
        depth=settings.depth,
        beam=settings.beam,
        least=settings.least,
    )
    confirmed = [one for one in slices if one.p_value <= settings.alpha]
    highest = max((one.error for one in confirmed), default=float(wrong.mean()))
    figures += [
        Figure("bad_slices", float(len(confirmed)), len(labelled), better="lower"),
        Figure("worst_slice_error", highest, len(labelled), better="lower"),
    ]
    sections.append(_slices_section(slices, settings.alpha))
    rows: list[dict[str, Any]] = [
        {
            "slice": one.text,
            "cases": one.n,
            "errors": one.error,
            "elsewhere": one.error_elsewhere,
            "p-value": one.p_value,
        }
        for one in slices
    ]
    summary = {
        "changed": {name: one.value for name, one in changed.items()},
        "bad slices": [one.text for one in confirmed],
    }
    return Findings(figures, rows, summary, labelled.digest, models, sections)


def _attributes(labelled: Labelled) -> list[Attribute]:
    own = [Attribute("label", labelled.labels, labelled.y)]
    return own + (image_attributes(labelled.x) if labelled.is_images else feature_attributes(labelled.x))


def _changes(job: EvaluateJob, labelled: Labelled, predicted: np.ndarray, read: Any, rng: Any) -> dict[str, Estimate]:
    """The share of predictions that each change makes another one."""
    settings = job.stability
    if labelled.is_images:
        changes = image_changes(settings.noise, settings.brightness, settings.pixels)
    else:
        changes = feature_changes(settings.noise, labelled.x.std(axis=0))
    found = {}
    with Bar("changes", total=len(changes), unit="change") as bar:
        for name, change in changes.items():
            other = read(change(labelled.x, rng), name).logits_NK.argmax(axis=1)
            found[name] = wilson_interval(int((other != predicted).sum()), len(predicted))
            bar.advance(1)
    return found


def _seeds(found: Multiplicity, accuracy_M: np.ndarray, n: int) -> list[Figure]:
    spread = mean_interval(accuracy_M)
    return [
        Figure("churn", found.churn, n, better="lower"),
        Figure("ambiguity", found.ambiguity, n, better="lower"),
        Figure("discrepancy", found.discrepancy, n, better="lower"),
        Figure("accuracy_of_seeds", spread.value, spread.n, spread.interval),
    ]


def _seeds_section(names: list[str], labels_MN: np.ndarray, y_N: np.ndarray, found: Multiplicity) -> Section:
    table: list[list[Any]] = [["model", "accuracy", "labels that differ from the first's"]]
    table += [
        [name.rstrip("/").rsplit("/", 1)[-1], float((row_N == y_N).mean()), float((row_N != labels_MN[0]).mean())]
        for name, row_N in zip(names, labels_MN, strict=True)
    ]
    text = (
        f"Two of the models label {found.churn:.2%} of the cases differently on average, where unrelated errors would "
        f"make it {found.chance:.2%} or more; {found.ambiguity:.2%} are labelled otherwise by at least one other model."
    )
    return Section("Other seeds", text, table)


def _changes_section(changed: dict[str, Estimate]) -> Section:
    table: list[list[Any]] = [["change", "predictions that it changes", "95% interval"]]
    table += [[name, one.value, f"{one.low:.4f} to {one.high:.4f}"] for name, one in changed.items()]
    return Section("Small changes", "", table)


def _slices_section(slices: list[Slice], alpha: float) -> Section:
    table: list[list[Any]] = [["slice", "cases", "errors", "elsewhere", "when found", "p-value", "bad"]]
    table += [
        [
            one.text,
            one.n,
            one.error,
            one.error_elsewhere,
            one.error_when_found,
            one.p_value,
            "yes" if one.p_value <= alpha else "not confirmed",
        ]
        for one in slices
    ]
    text = (
        "Searched on one half of the data, counted on the other; adjusted p-values. Of data without a bad slice, one "
        f"is confirmed in {alpha:g} of all cases at most."
    )
    return Section("Worst slices", text, table)
