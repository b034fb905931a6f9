"""What a sweep comes to: its table, the front of two figures, and the model that its rule chooses."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raysafe.errors import ConfigError
from raysafe.evaluation.sweep.ledger import Trial
from raysafe.evaluation.sweep.space import Settings, label
from raysafe.records.statistics import mean_interval
from raysafe.runtime.pareto import non_dominated
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import BestRule, SweepJob

TABLE = "sweep"
_NOT_SHOWN = frozenset({"rows_per_s", "tokens_per_s", "epoch", "learning_rate", "gradient_norm"})


@dataclass(frozen=True)
class Point:
    """A point of the space: the finished trials at it, one a seed, and the means of their figures."""

    settings: Settings
    trials: tuple[Trial, ...]
    figures: dict[str, float]

    def interval(self, figure: str) -> tuple[float, float] | None:
        """95% interval of a mean over seeds; None with one seed."""
        values = [trial.figures[figure] for trial in self.trials if figure in trial.figures]
        return mean_interval(values).interval if len(values) > 1 else None


def points_of(trials: Sequence[Trial]) -> list[Point]:
    """Finished trials by their settings, in the order of their numbers; figures that all seeds have, as means."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "finished":
            groups.setdefault(json.dumps(trial.settings, sort_keys=True, default=str), []).append(trial)
    points = []
    for group in groups.values():
        names = [n for n in group[0].figures if all(n in trial.figures for trial in group)]
        means = {n: math.fsum(trial.figures[n] for trial in group) / len(group) for n in names}
        points.append(Point(group[0].settings, tuple(group), means))
    return points


def front_of(job: SweepJob, points: Sequence[Point]) -> list[bool]:
    """Which points no other one beats in the two figures of `pareto`."""
    assert job.pareto is not None
    values = [[point.figures.get(axis.figure, math.nan) for axis in job.pareto] for point in points]
    return non_dominated(values, [axis.mode for axis in job.pareto])


def best_point(job: SweepJob, points: Sequence[Point]) -> Point | None:
    """The point with the best mean of the metric among those that meet the rule's bounds; None where none does."""
    eligible = [point for point in points if job.best is None or meets(job.best, point.figures)]
    sign = 1 if job.mode == "max" else -1
    return max(eligible, key=lambda point: sign * point.figures[job.metric], default=None)


def meets(rule: BestRule, figures: dict[str, float]) -> bool:
    """Whether figures keep the rule's bounds; raises ConfigError for a figure that isn't measured."""
    for name in (*rule.at_least, *rule.at_most):
        if name not in figures:
            raise ConfigError(f"best names '{name}', which no trial measured; there are {', '.join(sorted(figures))}")
    return all(figures[n] >= least for n, least in rule.at_least.items()) and all(
        figures[n] <= most for n, most in rule.at_most.items()
    )


def table_of(trials: Sequence[Trial]) -> pa.Table:
    """One row a trial: its settings, where it stands, and all its figures."""
    figures = list(dict.fromkeys(name for trial in trials for name in trial.figures))
    rows = [
        {
            "trial": trial.number,
            **{f"settings.{name}": value for name, value in trial.settings.items()},
            "seed": trial.seed,
            "state": trial.state,
            "starts": trial.starts,
            "step": trial.step,
            **{name: trial.figures.get(name) for name in figures},
            "run": trial.uri,
            "error": trial.error if trial.state == "failed" else "",
        }
        for trial in trials
    ]
    return pa.table({name: _column([row[name] for row in rows]) for name in (rows[0] if rows else {})})


def shown_figures(job: SweepJob, trials: Sequence[Trial]) -> list[str]:
    """The figures that a reader looks for first: the metric, those of the front and of the rule, then evidence."""
    named = [job.metric, *(axis.figure for axis in job.pareto or ())]
    named += [*job.best.at_least, *job.best.at_most] if job.best else []
    measured = [n for trial in trials for n in trial.figures]
    named += [n for n in measured if n.startswith("validation/") and n.partition("/")[2] not in _NOT_SHOWN]
    return list(dict.fromkeys(n for n in named if n in measured))[:6]


def finish(job: SweepJob, run: Run, trials: Sequence[Trial]) -> None:
    """Write sweep.parquet and sweep.csv, and register the best model where there is a rule."""
    table = table_of(trials)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    run.folder.write(f"{TABLE}.parquet", sink.getvalue().to_pybytes())
    text = io.BytesIO()
    pyarrow.csv.write_csv(table, text)
    run.folder.write(f"{TABLE}.csv", text.getvalue())
    points = points_of(trials)
    best = best_point(job, points)
    if best is None:
        run.event("none-is-best", why="no trial meets the rule's bounds" if points else "no trial finished")
        return
    sign = 1 if job.mode == "max" else -1
    chosen = max(best.trials, key=lambda trial: sign * trial.figures[job.metric])
    facts: dict[str, Any] = {"trial": chosen.number, "settings": label(best.settings), "seed": chosen.seed}
    if job.best is not None:
        facts["model"] = _register(job, chosen)
    run.log(len(trials), {name: best.figures[name] for name in shown_figures(job, trials) if name in best.figures})
    run.event("best", **facts, **{job.metric: best.figures[job.metric]}, run=chosen.uri)


def _register(job: SweepJob, trial: Trial) -> str:
    """The version's label; a second start finds it registered already."""
    from raysafe.records.registry import Registry
    from raysafe.records.store import default_url, open_store

    assert job.best is not None
    with open_store(job.store or default_url()) as store:
        version, _ = Registry(store).register(trial.uri, name=job.best.name)
    return version.label


def _column(values: list[Any]) -> pa.Array:
    """Settings of several kinds, such as a number or none at all, as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
