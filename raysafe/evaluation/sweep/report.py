"""A sweep's report: the table, the front of two figures, and how the metric depends on each field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raysafe.evaluation.sweep.ledger import Trial
from raysafe.evaluation.sweep.outcome import Point, front_of, points_of, shown_figures
from raysafe.evaluation.sweep.space import label
from raysafe.runtime.plots import Plotted, Points, Series, png
from raysafe.runtime.report import Section, write_report
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import SweepJob

PARETO = "pareto.png"


def trial_rows(job: SweepJob, trials: Sequence[Trial]) -> list[list[Any]]:
    """The table that people read, headings first: a trial a row, best metric first."""
    figures = shown_figures(job, trials)
    sign = -1 if job.mode == "max" else 1
    ordered = sorted(
        trials, key=lambda t: (t.state != "finished", sign * t.figures.get(job.metric, float("inf") * sign), t.number)
    )
    rows: list[list[Any]] = [["trial", *job.space, "seed", "state", "step", *figures]]
    rows += [
        [t.number, *t.settings.values(), t.seed, t.state, t.step, *(t.figures.get(name) for name in figures)]
        for t in ordered
    ]
    return rows


def write_sweep_report(job: SweepJob, run: Run, trials: Sequence[Trial]) -> None:
    """report.html, and pareto.png where two figures are weighed."""
    points = points_of(trials)
    best = next((event for event in reversed(run.events) if event["event"] == "best"), None)
    sections = [Section("Trials", _outcome(job, best), trial_rows(job, trials))]
    if len(job.seeds) > 1:
        sections.append(Section("Means over seeds", "With 95% intervals (Student's t).", _means(job, points)))
    if job.pareto is not None and points:
        sections.append(_front(job, run, points))
    dependence = _dependence(job, points)
    if dependence:
        sections.append(Section(f"How {job.metric} depends on", "", (), dependence))
    write_report(run, title=f"sweep of {job.base['job']} over {', '.join(job.space)}", sections=sections)


def _outcome(job: SweepJob, best: dict[str, Any] | None) -> str:
    if best is None:
        return "No trial is the best: none finished, or none meets the rule's bounds."
    bounds = []
    if job.best is not None:
        bounds = [f"{name} at least {value:g}" for name, value in job.best.at_least.items()]
        bounds += [f"{name} at most {value:g}" for name, value in job.best.at_most.items()]
    among = f" among those with {' and '.join(bounds)}" if bounds else ""
    registered = f" Registered as {best['model']}." if "model" in best else ""
    most = "highest" if job.mode == "max" else "lowest"
    return f"The {most} {job.metric}{among} has trial {best['trial']}, with {best['settings']}.{registered}"


def _means(job: SweepJob, points: Sequence[Point]) -> list[list[Any]]:
    figures = shown_figures(job, [trial for point in points for trial in point.trials])
    rows: list[list[Any]] = [[*job.space, "seeds", *figures]]
    for point in points:
        cells: list[Any] = []
        for name in figures:
            interval = point.interval(name)
            mean = point.figures.get(name)
            spread = "" if interval is None else f" ({interval[0]:.4g} to {interval[1]:.4g})"
            cells.append("" if mean is None else f"{mean:.4g}{spread}")
        rows.append([*point.settings.values(), len(point.trials), *cells])
    return rows


def _front(job: SweepJob, run: Run, points: Sequence[Point]) -> Section:
    assert job.pareto is not None
    first, second = (axis.figure for axis in job.pareto)
    shown = [(p, on) for p, on in zip(points, front_of(job, points), strict=True) if {first, second} <= set(p.figures)]
    plot = Points(
        x=[point.figures[first] for point, _ in shown],
        y=[point.figures[second] for point, _ in shown],
        labels=[_short(point) for point, _ in shown],
        marked=[on for _, on in shown],
        x_name=first,
        y_name=second,
    )
    run.folder.write(PARETO, png(plot))
    rows = [["on the front", first, second]]
    rows += [[label(p.settings), p.figures[first], p.figures[second]] for p, on in shown if on]
    return Section(
        "Front",
        f"Filled: points that no other one beats in both figures. The picture is in {PARETO}.",
        rows,
        {f"{second} over {first}": plot},
    )


def _short(point: Point) -> str:
    """One field's value speaks for itself beside a point; several are told by the trial's number."""
    if len(point.settings) == 1:
        value = next(iter(point.settings.values()))
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return str(point.trials[0].number)


def _dependence(job: SweepJob, points: Sequence[Point]) -> dict[str, Plotted]:
    """The metric over each field of numbers; of several fields, the best at each value."""
    sign = 1 if job.mode == "max" else -1
    plots: dict[str, Plotted] = {}
    for name in job.space:
        best: dict[float, float] = {}
        for point in points:
            value = point.settings[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            figure = point.figures[job.metric]
            best[value] = max(best.get(value, figure), figure, key=lambda found: sign * found)
        if len(best) > 1:
            plots[name] = [Series(job.metric, sorted(best), [best[value] for value in sorted(best)])]
    return plots
