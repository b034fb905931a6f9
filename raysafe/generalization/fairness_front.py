"""The front between accuracy and a gap: several trainings, and the rule by which one is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysafe.generalization.fairness import Fairness, Gap
from raysafe.generalization.settings import Criterion, FairTraining, Front
from raysafe.records.statistics import Estimate
from raysafe.runtime.pareto import non_dominated
from raysafe.runtime.plots import Points


@dataclass(frozen=True)
class Judged:
    """One trained model's figures on the same rows."""

    name: str
    accuracy: Estimate
    parity: Gap
    odds: Gap | None
    opportunity: Gap | None

    @classmethod
    def of(cls, name: str, accuracy: Estimate, found: Fairness) -> Judged:
        return cls(name, accuracy, found.demographic_parity, found.equalised_odds, found.equal_opportunity)

    def gap(self, criterion: Criterion) -> float:
        """The criterion's own; nan where it isn't known."""
        gaps: dict[Criterion, Gap | None] = {
            "demographic-parity": self.parity,
            "equal-opportunity": self.opportunity,
            "equalised-odds": self.odds,
        }
        found = gaps[criterion]
        return float("nan") if found is None else found.value


def candidates(fair: FairTraining, front: Front | None) -> dict[str, FairTraining]:
    """What to train, by name: the job's own setting, or a front's, of which the first is unconstrained."""
    if front is None:
        return {name_of(fair): fair}
    bare = fair.model_copy(update={"penalty": 0.0, "tolerance": None})
    tried = [bare]
    tried += [bare.model_copy(update={"penalty": weight}) for weight in front.penalties]
    tried += [bare.model_copy(update={"tolerance": tolerance}) for tolerance in front.tolerances]
    return {name_of(one): one for one in tried}


def name_of(fair: FairTraining) -> str:
    if fair.tolerance is not None:
        return f"tolerance {fair.tolerance:g}"
    return f"penalty {fair.penalty:g}" if fair.penalty else "unconstrained"


def kept(judged: Sequence[Judged], criterion: Criterion, largest_gap: float) -> int:
    """The most accurate model whose gap is at most so much; where there is none, the one with the smallest gap."""
    within = [place for place, one in enumerate(judged) if one.gap(criterion) <= largest_gap]
    if within:
        return max(within, key=lambda place: judged[place].accuracy.value)
    # a gap that isn't known compares as the largest
    return min(range(len(judged)), key=lambda place: _known(judged[place].gap(criterion)))


def on_front(judged: Sequence[Judged], criterion: Criterion) -> list[bool]:
    """Whether no other model is both as accurate and as equal, and better in one."""
    return non_dominated([(one.accuracy.value, one.gap(criterion)) for one in judged], ("max", "min"))


def front_plots(judged: Sequence[Judged], criterion: Criterion) -> dict[str, Points]:
    """Accuracy over both gaps; what is on the front is told by the gap on the axis."""
    plots = {}
    axes: dict[str, Criterion] = {
        "demographic parity gap": "demographic-parity",
        "equalised odds gap": "equalised-odds",
    }
    for title, axis in axes.items():
        trained = " (trained for)" if axis == criterion else ""
        known = [one for one in judged if one.gap(axis) == one.gap(axis)]
        if known:
            plots[f"accuracy over {title}{trained}"] = Points(
                x=[one.gap(axis) for one in known],
                y=[one.accuracy.value for one in known],
                labels=[one.name.replace("penalty ", "") for one in known],
                marked=on_front(known, axis),
                x_name=title,
                y_name="accuracy",
            )
    return plots


def _known(gap: float) -> float:
    return gap if gap == gap else float("inf")
