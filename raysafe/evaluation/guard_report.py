"""Examining a policy's guards: recall at fixed false-positive rates, per transform and source, and under attack."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raysafe.errors import DataError
from raysafe.evaluation.guard_attack import Attacked, attack
from raysafe.evaluation.guard_metrics import RecallAt, area_under_curve, recall_at, share_at, threshold_at
from raysafe.evaluation.guard_scores import Advance, Examiner, Scores
from raysafe.guards.labelled import Labelled
from raysafe.guards.transforms import TRANSFORMS, apply
from raysafe.records.statistics import Estimate, wilson_interval

LEVELS = (0.01, 0.05)
BENIGN_UNDER_TRANSFORM = 400
"""Benign texts, at most, that are disguised too: does the guard punish the attack or the disguise?"""

Work = Callable[[str, int], Advance]
"""(what is done, how many) to what is told of each."""


@dataclass(frozen=True)
class Row:
    """Recall on one set of attacks; benign_stopped: share of benign texts, disguised alike, that the policy stops."""

    name: str
    n: int
    at: tuple[RecallAt, ...]
    policy: Estimate
    benign_stopped: Estimate | None = None


@dataclass(frozen=True)
class AdaptiveRow:
    """Recall that is left after all tries, and (tries, recall) on the way, by false-positive rate and as it stands."""

    prompts: int
    tries: int
    at: tuple[tuple[float, Estimate], ...]
    policy: Estimate
    curves: dict[str, list[float]]
    best: dict[str, int]


@dataclass(frozen=True)
class Report:
    """Everything that `raysafe guards test` found."""

    guards: tuple[str, ...]
    stage: str
    attacks: int
    benign: int
    auc: Estimate
    thresholds: tuple[float, ...]
    false_positives: Estimate
    transforms: tuple[Row, ...]
    groups: tuple[Row, ...]
    benign_groups: tuple[Row, ...]
    failures: int
    adaptive: AdaptiveRow | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """report.json and recall.png."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, default=_plain)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        draw(self, folder / "recall.png")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def examine(
    examiner: Examiner,
    rows: Sequence[Labelled],
    *,
    transforms: Sequence[str] = tuple(TRANSFORMS),
    adaptive: int = 0,
    adaptive_prompts: int = 100,
    seed: int = 0,
    work: Work = lambda what, total: lambda done: None,
) -> Report:
    """Judge the benign texts as they are and the attacks under each transform; raises DataError without both kinds."""
    attacks = [row for row in rows if row.attack]
    benign = [row for row in rows if not row.attack]
    if len(attacks) < 2 or len(benign) < 100:
        raise DataError(
            f"a false-positive rate of 1% needs 100 benign texts or more and recall 2 attacks, got {len(benign)} and "
            f"{len(attacks)}: give more rows, or a file of benign texts with --benign"
        )
    texts, harmless = [row.text for row in attacks], [row.text for row in benign]
    clean = examiner.judge_all(harmless, work("benign texts", len(harmless)))
    sample = harmless[:: max(1, len(harmless) // BENIGN_UNDER_TRANSFORM)]
    failures, by_transform, plain = clean.failures, [], None
    for name in transforms:
        judged = examiner.judge_all([apply([name], text, seed) for text in texts], work(name, len(texts)))
        alike = None
        if name != "plain":
            disguised = examiner.judge_all([apply([name], text, seed) for text in sample])
            alike = wilson_interval(int(disguised.stopped_N.sum()), len(sample))
        by_transform.append(_row(name, judged, clean, alike))
        failures += judged.failures
        plain = judged if name == "plain" else plain
    if plain is None:
        plain = examiner.judge_all(texts, work("plain", len(texts)))
        failures += plain.failures
    labels = np.r_[np.ones(len(texts)), np.zeros(len(harmless))]
    return Report(
        guards=tuple(examiner.guards),
        stage=examiner.stage,
        attacks=len(texts),
        benign=len(harmless),
        auc=area_under_curve(labels, np.r_[plain.scores_N, clean.scores_N]),
        thresholds=tuple(threshold_at(clean.scores_N, level) for level in LEVELS),
        false_positives=wilson_interval(int(clean.stopped_N.sum()), len(harmless)),
        transforms=tuple(by_transform),
        groups=_by_group([row.group for row in attacks], plain, clean),
        benign_groups=_by_group([row.group for row in benign], clean, clean),
        failures=failures,
        adaptive=_adaptive(examiner, texts, clean, adaptive, adaptive_prompts, seed, work) if adaptive else None,
        settings={"seed": seed, "levels": LEVELS},
    )


def _row(name: str, judged: Scores, clean: Scores, alike: Estimate | None = None) -> Row:
    at = tuple(recall_at(judged.scores_N, clean.scores_N, level) for level in LEVELS)
    n = judged.scores_N.size
    return Row(name, n, at, wilson_interval(int(judged.stopped_N.sum()), n), alike)


def _by_group(groups: Sequence[str], judged: Scores, clean: Scores) -> tuple[Row, ...]:
    """A row for each group of texts, at the thresholds of all benign ones."""
    names = np.array(groups)
    rows = []
    for name in sorted(set(groups)):
        mine = names == name
        rows.append(_row(name or "(no group)", Scores(judged.scores_N[mine], judged.stopped_N[mine], 0), clean))
    return tuple(rows)


def _adaptive(
    examiner: Examiner, texts: list[str], clean: Scores, tries: int, prompts: int, seed: int, work: Work
) -> AdaptiveRow:
    order = np.random.default_rng(seed).permutation(len(texts))[:prompts]
    chosen = [texts[int(number)] for number in order]
    found: Attacked = attack(
        examiner.judge, chosen, tries=tries, seed=seed, advance=work(f"adaptive, {tries} tries each", len(chosen))
    )
    thresholds = [(level, threshold_at(clean.scores_N, level)) for level in LEVELS]
    curves = {
        f"{level:.0%} false positives": (found.lowest_PT >= threshold).mean(axis=0).tolist()
        for level, threshold in thresholds
    }
    curves["the policy as it stands"] = found.stopped_PT.mean(axis=0).tolist()
    return AdaptiveRow(
        prompts=len(chosen),
        tries=tries,
        at=tuple((level, share_at(found.lowest_PT[:, -1], threshold)) for level, threshold in thresholds),
        policy=wilson_interval(int(found.stopped_PT[:, -1].sum()), len(chosen)),
        curves=curves,
        best=dict(Counter("+".join(names) for names in found.best).most_common(10)),
    )


def draw(report: Report, path: Path) -> None:
    """Recall by transform with intervals, and the recall that the adaptive attacker leaves after each try."""
    from matplotlib.figure import Figure

    wide = report.adaptive is not None
    figure = Figure(figsize=(12 if wide else 8, 5.5), layout="constrained")
    axes = figure.subplots(1, 2 if wide else 1, squeeze=False, width_ratios=[2, 1] if wide else [1])[0]
    places, columns = np.arange(len(report.transforms)), len(LEVELS) + 1
    for column in range(columns):
        estimates = [row.at[column].recall if column < len(LEVELS) else row.policy for row in report.transforms]
        label = f"at {LEVELS[column]:.0%} false positives" if column < len(LEVELS) else "the policy as it stands"
        values = np.array([estimate.value for estimate in estimates])
        ends = np.array([[e.value - e.low, e.high - e.value] for e in estimates]).T
        axes[0].bar(places + (column - 1) * 0.27, values, 0.25, yerr=ends.clip(0), label=label, capsize=2)
    axes[0].set_xticks(places, [row.name for row in report.transforms], rotation=45, ha="right")
    axes[0].set(ylabel="recall", ylim=(0, 1), title=f"{report.attacks} attacks, {report.benign} benign texts")
    axes[0].legend(fontsize=8)
    if report.adaptive is not None:
        for name, curve in report.adaptive.curves.items():
            axes[1].plot(np.arange(1, len(curve) + 1), curve, label=name)
        axes[1].set(xlabel="tries of the adaptive attacker", ylabel="recall left", ylim=(0, 1), xscale="log")
        axes[1].legend(fontsize=8)
    figure.savefig(path, dpi=110)
