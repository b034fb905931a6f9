"""robustness: how much of a classifier's accuracy is left when its inputs are changed within a ball.

The model is a classifier's folder or run, the data labelled images or features; a reference is another classifier, by
which transfer is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raysafe.errors import ConfigError
from raysafe.evaluation.suites import Figure, Findings
from raysafe.records.digest import folder_digest
from raysafe.records.statistics import wilson_interval
from raysafe.records.versions import model_folder_of
from raysafe.robustness.evaluate import SURVIVED, RobustnessSettings, evaluate_robustness
from raysafe.robustness.hygiene import Check, checks
from raysafe.runtime.plots import Bars, Series
from raysafe.runtime.report import Section

if TYPE_CHECKING:
    import pyarrow as pa

    from raysafe.data.labelled import Labelled
    from raysafe.evaluation.job import EvaluateJob

Columns = dict[str, Any]


def digest(model: str) -> str:
    """sha256 of the classifier's folder."""
    return folder_digest(_folder(model))


def examine(job: EvaluateJob) -> Findings:
    """Attack every sample; raises ConfigError where model and data don't fit, and what reading them raises."""
    from raysafe.data.labelled import load_labelled

    labelled = load_labelled(job.data, limit=job.limit)
    folder, other = _folder(job.model), None if job.reference is None else _folder(job.reference)
    for path in (folder, other):
        if path is not None:
            _check_fit(path, labelled)
    known = {} if other is None else {str(job.reference): folder_digest(other)}
    table = evaluate_robustness(
        str(folder),
        labelled,
        job.robustness,
        key=" ".join([folder_digest(folder), *known.values()]),
        needs=job.needs,
        surrogate=None if other is None else str(other),
        address=job.address,
    )
    columns = {name: np.asarray(table[name].to_pylist()) for name in table.column_names if name != "adversarial"}
    found = checks(columns, job.robustness)
    figures = figures_of(columns, job.robustness, labelled, found)
    return Findings(
        figures,
        rows=_rows(columns, job.robustness, labelled),
        summary=_summary(columns, job.robustness, found),
        data_digest=labelled.digest,
        models=known,
        sections=_sections(columns, table, job.robustness, labelled, found),
    )


def figures_of(columns: Columns, settings: RobustnessSettings, labelled: Labelled, found: list[Check]) -> list[Figure]:
    """Accuracies with Wilson's intervals, by themselves, per attack, and per epsilon; and the number of warnings."""
    right_N = columns["predicted"] == columns["label"]
    figures = [_share("clean_accuracy", right_N), _share("robust_accuracy", ~columns["broken"])]
    figures += [_share(f"accuracy_under@{name}", ~columns[f"broken/{name}"]) for name in settings.names]
    figures += [_share(f"robust_accuracy@{eps:g}", columns["smallest"] > eps) for eps in settings.curve]
    classes = [~columns["broken"][columns["label"] == k] for k in range(len(labelled.labels))]
    worst = min((of_class for of_class in classes if of_class.size), key=lambda of_class: of_class.mean())
    figures.append(_share("worst_class_robust_accuracy", worst))
    if found:
        warnings = sum(check.warning for check in found)
        figures.append(Figure("masking_warnings", float(warnings), int(columns["checked"].sum()), better="lower"))
    return figures


def _share(metric: str, good_N: np.ndarray) -> Figure:
    estimate = wilson_interval(int(good_N.sum()), int(good_N.size))
    return Figure(metric, estimate.value, estimate.n, estimate.interval)


def _folder(model: str) -> Path:
    return model_folder_of(Path(model).expanduser())


def _check_fit(folder: Path, labelled: Labelled) -> None:
    from raysafe.models.classifier import input_shape, labels_of, load_classifier

    model = load_classifier(folder)
    shape, names = input_shape(model), labels_of(model)
    if shape != labelled.x.shape[1:]:
        raise ConfigError(f"{folder} takes inputs of shape {shape}, the data have {labelled.x.shape[1:]}")
    if names != labelled.labels:
        raise ConfigError(
            f"{folder} tells {len(names)} classes apart ({', '.join(names[:4])}, …), the data are of "
            f"{len(labelled.labels)} ({', '.join(labelled.labels[:4])}, …): give data with the model's classes"
        )


def _rows(columns: Columns, settings: RobustnessSettings, labelled: Labelled) -> list[dict[str, Any]]:
    """One record a sample; infinity, which JSON lacks, is told as none."""
    names = labelled.labels
    return [
        {
            "sample": int(columns["sample"][n]),
            "label": names[columns["label"][n]],
            "predicted": names[columns["predicted"][n]],
            "broken at epsilon": None if columns["smallest"][n] == SURVIVED else float(columns["smallest"][n]),
            "broken by": ", ".join(name for name in settings.names if columns[f"broken/{name}"][n]),
            "predicted then": names[columns["adversarial_prediction"][n]],
            "queries": int(sum(columns[f"queries/{name}"][n] for name in settings.names)),
        }
        for n in range(len(labelled))
    ]


def _summary(columns: Columns, settings: RobustnessSettings, found: list[Check]) -> dict[str, Any]:
    return {
        "norm": settings.norm,
        "epsilon": settings.epsilon,
        "curve": {f"{eps:g}": float((columns["smallest"] > eps).mean()) for eps in (0.0, *settings.curve)},
        "attacks": {
            name: {
                "accuracy": float((~columns[f"broken/{name}"]).mean()),
                "mean_queries": float(columns[f"queries/{name}"].mean()),
            }
            for name in settings.names
        },
        "checks": [{"sign": c.name, "found": c.found, "warning": c.warning} for c in found],
    }


def _sections(
    columns: Columns, table: pa.Table, settings: RobustnessSettings, labelled: Labelled, found: list[Check]
) -> list[Section]:
    radii = [0.0, *settings.curve]
    curve = Series("robust accuracy", radii, [float((columns["smallest"] > eps).mean()) for eps in radii])
    text = (
        f"Changes within {settings.epsilon:g} in {settings.norm}. Robust: what no attack breaks, there or at a smaller "
        "epsilon; an attack's own line counts it alone."
    )
    sections = [
        Section("Attacks", text, _attack_table(columns, settings), {"accuracy over epsilon": [curve]}),
        _classes(columns, labelled),
    ]
    if found:
        sections.insert(1, _hygiene(found))
    pictures = _pictures(columns, table, settings, labelled)
    if pictures:
        text = (
            "The sample, what breaks it, and the change (grey: none). First the ones that break at the least epsilon."
        )
        sections.append(Section("Broken samples", text, pictures=pictures))
    return sections


def _attack_table(columns: Columns, settings: RobustnessSettings) -> list[list[Any]]:
    rows: list[list[Any]] = [["attack", "accuracy left", "95% interval", "mean distance", "passes a sample"]]
    for name, broken_N in (("none", columns["predicted"] != columns["label"]), ("all", columns["broken"])):
        share = _share(name, ~broken_N)
        rows.append([name, share.value, _interval(share), "", ""])
    for name in settings.names:
        share = _share(name, ~columns[f"broken/{name}"])
        found_N = columns[f"broken/{name}"] & (columns["predicted"] == columns["label"])
        distance = float(columns[f"distance/{name}"][found_N].mean()) if found_N.any() else ""
        rows.append([name, share.value, _interval(share), distance, float(columns[f"queries/{name}"].mean())])
    return rows


def _interval(figure: Figure) -> str:
    return "" if figure.interval is None else f"{figure.interval[0]:.4g} to {figure.interval[1]:.4g}"


def _classes(columns: Columns, labelled: Labelled) -> Section:
    right_N = columns["predicted"] == columns["label"]
    rows: list[list[Any]] = [["class", "samples", "clean accuracy", "robust accuracy", "95% interval", "becomes"]]
    shares = []
    for k, name in enumerate(labelled.labels):
        of_class_N = columns["label"] == k
        if not of_class_N.any():
            continue
        share = _share(name, ~columns["broken"][of_class_N])
        shares.append(share)
        then_N = columns["adversarial_prediction"][of_class_N & columns["broken"]]
        then_N = then_N[then_N != k]
        becomes = labelled.labels[int(np.bincount(then_N).argmax())] if then_N.size else ""
        rows.append([name, share.n, float(right_N[of_class_N].mean()), share.value, _interval(share), becomes])
    bars = Bars("robust accuracy", [s.metric for s in shares], [s.value for s in shares], [s.interval for s in shares])
    return Section(
        "Classes",
        "Becomes: the class that broken samples are most often taken for.",
        rows,
        {"robust accuracy of each class": [bars]},
    )


def _hygiene(found: list[Check]) -> Section:
    warnings = [check for check in found if check.warning]
    text = "What an honest evaluation shows (Carlini et al. 2019). All signs are there."
    if warnings:
        text = (
            f"{len(warnings)} of {len(found)} signs of an honest evaluation (Carlini et al. 2019) are missing: the "
            "gradients may be masked, and the model less robust than the figures say. Attack it without its gradients, "
            "or through another model, before they are believed."
        )
    rows: list[list[Any]] = [["sign", "found", ""], *([c.name, c.found, not c.warning] for c in found)]
    return Section("Can it be believed?", text, rows)


def _pictures(columns: Columns, table: pa.Table, settings: RobustnessSettings, labelled: Labelled) -> dict[str, bytes]:
    """PNG files of broken samples: the least epsilon first, then the surest of what is wrong."""
    if not labelled.is_images or not settings.examples:
        return {}
    broken = np.flatnonzero((columns["smallest"] > 0) & (columns["smallest"] < SURVIVED))
    order = np.lexsort((-columns["adversarial_confidence"][broken], columns["smallest"][broken]))
    pictures = {}
    for n in broken[order][: settings.examples]:
        changed = np.asarray(table["adversarial"][int(n)].as_py(), dtype=np.float32).reshape(labelled.x.shape[1:])
        name = (
            f"{int(columns['sample'][n])}: {labelled.labels[columns['label'][n]]} becomes "
            f"{labelled.labels[columns['adversarial_prediction'][n]]} at {columns['smallest'][n]:g}"
        )
        pictures[name] = _triptych(labelled.x[n], changed)
    return pictures


def _triptych(image_CHW: np.ndarray, changed_CHW: np.ndarray) -> bytes:
    """The image, the changed one, and the change around grey, stretched to its largest value, side by side."""
    from raysafe.rl.training import png

    change = changed_CHW - image_CHW
    change = 0.5 + 0.5 * change / max(float(np.abs(change).max()), 1e-9)
    gap = np.ones((*image_CHW.shape[:2], 1), dtype=np.float32)
    wide_CHW = np.concatenate([image_CHW, gap, changed_CHW, gap, change], axis=2)
    shown_HWC = np.repeat(wide_CHW, 3, axis=0)[:3] if len(wide_CHW) == 1 else wide_CHW[:3]
    return png((shown_HWC.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8))
