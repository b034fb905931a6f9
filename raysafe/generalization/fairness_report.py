"""Tables and plots of fairness: of a model's decisions, of the data, and of a front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysafe.generalization.fairness import Fairness, Gap
from raysafe.generalization.fairness_audit import Audit
from raysafe.generalization.fairness_front import Judged, front_plots, on_front
from raysafe.generalization.settings import Criterion
from raysafe.records.statistics import Estimate
from raysafe.runtime.plots import Bars
from raysafe.runtime.report import Section

MOST_BARS = 8


def shown(estimate: Estimate | Gap | None) -> str:
    """A value with its interval."""
    return "unknown" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def fairness_section(column: str, found: Fairness, favourable: str) -> Section:
    """One column's groups: rates with intervals, calibration, and the gaps in words."""
    rows: list[list[Any]] = [
        ["group", "cases", "base rate", "selected", "true positives", "false positives", "accuracy"]
    ]
    calibrated = found.calibration is not None
    if calibrated:
        rows[0] += ["overrated by", "calibration error", "by chance"]
    for one in found.groups:
        name = one.group + (" (too few)" if one.group in found.too_small else "")
        rates = (one.base_rate, one.selected, one.true_positive, one.false_positive, one.accuracy)
        row: list[Any] = [name, one.n, *map(shown, rates)]
        if one.calibration is not None:
            row += [shown(one.calibration.excess), one.calibration.error, one.calibration.chance]
        rows.append(row)
    text = (
        f"Selected is who is classed as '{favourable}'. Demographic parity gap {_gap(found.demographic_parity)}; "
        f"equal opportunity gap {_gap(found.equal_opportunity)}; equalised odds gap {_gap(found.equalised_odds)}"
        + (f"; calibration gap {_gap(found.calibration)}" if calibrated else "")
        + ". Intervals are of 95%: Wilson's of a rate, and of a gap one that holds for all pairs of groups at once."
    )
    if found.too_small:
        text += f"\n\nToo few cases to count for a gap: {', '.join(found.too_small)}."
    compared = [one for one in found.groups if one.group not in found.too_small][:MOST_BARS]
    labels = [one.group for one in compared]

    def bars(name: str, estimates: Sequence[Estimate | None]) -> Bars:
        known = [estimate or Estimate(0.0, 0.0, 0.0, 0) for estimate in estimates]
        return Bars(name, labels, [e.value for e in known], [e.interval for e in known])

    plots = {
        "selected": [bars("selected", [one.selected for one in compared])],
        "true and false positives": [
            bars("true positives", [one.true_positive for one in compared]),
            bars("false positives", [one.false_positive for one in compared]),
        ],
    }
    return Section(f"Groups by {column}", text, rows, plots)


def audit_section(audits: Sequence[Audit], favourable: str) -> Section:
    """The data themselves: representation, label balance, and leakage of the group through the features."""
    rows: list[list[Any]] = [["column", "group", "rows", "share", f"labelled '{favourable}'"]]
    texts = []
    for one in audits:
        rows += [[one.column, share.group, share.n, shown(share.share), shown(share.qualified)] for share in one.shares]
        texts.append(f"{one.column}: the labels differ by {_gap(one.label_gap)}. {_leak(one)}")
    return Section("Audit of the data", "\n\n".join(texts), rows)


def front_section(judged: Sequence[Judged], criterion: Criterion, chosen: int, where: str) -> Section:
    """Each model's figures with both gaps, and the front over each."""
    marks = on_front(judged, criterion)
    rows: list[list[Any]] = [["model", "accuracy", "parity gap", "odds gap", "opportunity gap", "on the front", "kept"]]
    for place, (one, marked) in enumerate(zip(judged, marks, strict=True)):
        figures = map(shown, (one.accuracy, one.parity, one.odds, one.opportunity))
        rows.append([one.name, *figures, "yes" if marked else "no", "kept" if place == chosen else ""])
    text = (
        f"On {where}, with 95% intervals. Trained for {criterion}; equal selection can widen the gap of odds, so both "
        "are told. On the front is a model of which no other is as accurate and as equal, and better in one; filled "
        "points are those, by the gap on the axis."
    )
    return Section("Accuracy against fairness", text, rows, front_plots(judged, criterion))


def flat(column: str, found: Fairness) -> list[dict[str, Any]]:
    """A record a group, for the cases beside the evidence."""
    records = []
    for one in found.groups:
        rates: Mapping[str, Estimate | None] = {
            "base_rate": one.base_rate,
            "selected": one.selected,
            "true_positive": one.true_positive,
            "false_positive": one.false_positive,
            "accuracy": one.accuracy,
            "overrated_by": one.calibration.excess if one.calibration else None,
        }
        record: dict[str, Any] = {"column": column, "group": one.group, "n": one.n}
        for name, estimate in rates.items():
            record[name] = None if estimate is None else estimate.value
            record[f"{name}_interval"] = None if estimate is None else list(estimate.interval)
        if one.calibration is not None:
            record |= {"calibration_error": one.calibration.error, "calibration_by_chance": one.calibration.chance}
        records.append(record)
    return records


def _gap(gap: Gap | None) -> str:
    if gap is None:
        return "unknown, as some group has nobody to count"
    return f"{shown(gap)} ({gap.highest} above {gap.lowest})"


def _leak(one: Audit) -> str:
    found = one.leakage
    if found is None:
        return "Some group is too small for its leakage to be measured."
    telling = ", ".join(f"{name} {area:.2f}" for name, area in found.telling[:5])
    verdict = "can be told" if found.p_value <= 0.05 else "can't be told beyond chance"
    return (
        f"The group {verdict} from the features: AUROC {found.auroc:.3f} on held-out rows, with shuffled groups below "
        f"{found.chance:.3f} (p {found.p_value:.3g}, {found.rows} rows). By themselves tell most: {telling}."
    )
