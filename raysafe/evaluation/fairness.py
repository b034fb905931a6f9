"""fairness: how a classifier of a table's rows treats groups of people, and what the data themselves say of them.

The model is a run of `raysafe classifier`, or its model folder: features.json in it says how rows become inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raysafe.evaluation.suites import Figure, Findings

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob
    from raysafe.generalization.fairness import Fairness, Gap
    from raysafe.generalization.fairness_audit import Audit


def digest(model: str) -> str:
    """sha256 of the model's folder."""
    from raysafe.models.language import model_digest

    return model_digest(model)


def examine(job: EvaluateJob) -> Findings:
    """Figures of groups by each column and by all together, calibration, and the audit of the data."""
    from raysafe.data.grouped import load_grouped, read_features
    from raysafe.generalization.fairness import columns_of
    from raysafe.generalization.fairness_audit import audit_columns
    from raysafe.generalization.fairness_report import audit_section, fairness_section, flat
    from raysafe.generalization.predictions import place_of, predict
    from raysafe.models.classifier import labels_of, load_classifier
    from raysafe.models.language import model_folder

    assert job.groups is not None and job.favourable is not None
    folder = model_folder(job.model)
    labels = labels_of(load_classifier(folder))
    place = place_of(job.favourable, labels)
    grouped = load_grouped(
        job.data,
        label=job.label,
        groups=job.groups,
        features=read_features(folder),
        labels=labels,
        limit=job.limit,
    )
    predictions = predict(folder, grouped)
    columns = columns_of(grouped.groups)
    found = {
        column: predictions.by_group(groups_N, job.favourable, smallest=job.smallest_group)
        for column, groups_N in columns.items()
    }
    audits = audit_columns(grouped, place, permutations=job.permutations)
    right = predictions.accuracy
    figures = [Figure("accuracy", right.value, right.n, right.interval)]
    figures += _of_model(found, columns_together=len(columns) > 1)
    figures += _of_data(audits)
    sections = [fairness_section(column, one, job.favourable) for column, one in found.items()]
    return Findings(
        figures,
        [record for column, one in found.items() for record in flat(column, one)],
        {"audit": [_summary(one) for one in audits]},
        grouped.digest,
        sections=[*sections, audit_section(audits, job.favourable)],
    )


def _of_model(found: dict[str, Fairness], *, columns_together: bool) -> list[Figure]:
    """The widest gap of any one column, and that between the intersections of several."""
    alone = list(found.values())[:-1] if columns_together else list(found.values())
    figures = _gaps("", alone)
    if columns_together:
        figures += _gaps("intersectional_", [list(found.values())[-1]])
    groups = [group for one in found.values() for group in one.groups if group.group not in one.too_small]
    worst = min(groups, key=lambda group: group.accuracy.value)
    figures.append(Figure("worst_group_accuracy", worst.accuracy.value, worst.n, worst.accuracy.interval))
    rated = [(one.calibration, one.n) for one in groups if one.calibration is not None]
    error, n = max(((calibration.error, n) for calibration, n in rated), default=(0.0, 0))
    figures.append(Figure("worst_group_calibration_error", error, n, better="lower"))
    return figures


def _gaps(prefix: str, found: list[Fairness]) -> list[Figure]:
    """A gap that some column leaves unknown isn't told, as the widest could be that one."""
    named: dict[str, list[Gap | None]] = {
        "demographic_parity_gap": [one.demographic_parity for one in found],
        "equal_opportunity_gap": [one.equal_opportunity for one in found],
        "equalised_odds_gap": [one.equalised_odds for one in found],
        "calibration_gap": [one.calibration for one in found],
    }
    figures = []
    for name, gaps in named.items():
        known = [gap for gap in gaps if gap is not None]
        if len(known) == len(gaps):
            widest = max(known, key=lambda gap: gap.value)
            figures.append(Figure(f"{prefix}{name}", widest.value, widest.n, widest.interval, "lower"))
    return figures


def _of_data(audits: list[Audit]) -> list[Figure]:
    smallest = min((one.smallest for one in audits), key=lambda share: share.share.value)
    gap = max((one.label_gap for one in audits), key=lambda gap: gap.value)
    figures = [
        Figure("smallest_group_share", smallest.share.value, smallest.share.n, smallest.share.interval),
        Figure("label_gap", gap.value, gap.n, gap.interval, "lower"),
    ]
    leaks = [one.leakage for one in audits]
    known = [leak for leak in leaks if leak is not None]
    if len(known) == len(leaks):
        worst = max(known, key=lambda leak: leak.auroc)
        figures.append(Figure("leakage", worst.auroc, worst.rows, better="lower"))
        figures.append(Figure("leakage_above_chance", worst.auroc - worst.chance, worst.rows, better="lower"))
    return figures


def _summary(one: Audit) -> dict[str, Any]:
    leak = one.leakage
    return {
        "column": one.column,
        "groups": {share.group: share.n for share in one.shares},
        "label_gap": one.label_gap.value,
        "leakage": None
        if leak is None
        else {"auroc": leak.auroc, "chance": leak.chance, "p_value": leak.p_value, "telling": dict(leak.telling)},
    }
