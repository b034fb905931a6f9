"""What a transfer leaves behind: evidence, and the sections of its report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysafe.data.labelled import Labelled
from raysafe.generalization.negative_transfer import Judgement
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.records.statistics import wilson_interval
from raysafe.runtime.plots import Bars, Plotted, Series
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.generalization.transfer import TransferJob

POINTS = 60
"""Of a curve that is noisy from step to step."""


@dataclass(frozen=True)
class Measured:
    """Which held-out examples a model got right."""

    metric: str
    whose: str
    when: str
    right_N: NDArray[np.bool_]


def accuracies(job: TransferJob, run: Run, target: Labelled, found: Sequence[Measured]) -> Section:
    """A table with intervals, each also as evidence."""
    rows: list[list[Any]] = [["held-out examples of", "model", "right", "of", "accuracy", "95% interval"]]
    estimates = [wilson_interval(float(one.right_N.sum()), len(one.right_N)) for one in found]
    for one, estimate in zip(found, estimates, strict=True):
        record(job, run, target, one.metric, estimate.value, estimate.n, estimate.interval)
        interval = f"{estimate.low:.4f} to {estimate.high:.4f}"
        rows.append([one.whose, one.when, int(one.right_N.sum()), estimate.n, estimate.value, interval])
    labels = [f"{one.whose}, {one.when}" for one in found]
    bars = Bars("accuracy", labels, [e.value for e in estimates], [e.interval for e in estimates])
    text = "Examples that nothing was learned from, and that no checkpoint was chosen by."
    return Section("Held-out accuracy", text, rows, {"accuracy": [bars]})


def record(
    job: TransferJob, run: Run, target: Labelled, metric: str, value: float, n: int, interval: tuple[float, float]
) -> None:
    """Add to the run's evidence, unless an earlier start of the run has."""
    if any(item.metric == metric for item in run.evidence):
        return
    with tempfile.TemporaryDirectory(prefix="raysafe-digest-") as folder:
        run.folder.download("model", folder)
        digest = folder_digest(folder)
    settings = {"method": job.method} | ({"source": str(job.source)} if job.adapts else {})
    run.add_evidence(
        [
            Evidence(
                suite="transfer",
                metric=metric,
                value=value,
                n=n,
                interval=interval,
                model_digest=digest,
                data_digest=target.digest,
                settings=settings,
                run=run.uri,
            )
        ]
    )


def comparison(judgement: Judgement, seed: int, transferred: Sequence[float], scratch: Sequence[float]) -> Section:
    """The verdict on negative transfer, and every pair."""
    rows: list[list[Any]] = [["seed", "transferred", "from scratch", "difference"]]
    rows += [[seed + pair, a, b, a - b] for pair, (a, b) in enumerate(zip(transferred, scratch, strict=True))]
    seeds = [str(row[0]) for row in rows[1:]]
    bars = [Bars("transferred", seeds, transferred), Bars("from scratch", seeds, scratch)]
    return Section("Did transfer help?", judgement.sentence, rows, {"accuracy on the target, by seed": bars})


def domains(job: TransferJob, run: Run) -> Section:
    """Curves of what brought the domains together."""
    curves: dict[str, Plotted] = {}
    for name in job.measures[1:]:
        points = [(row["epoch"], row[name]) for row in run.metrics if name in row]
        curves[f"{name.replace('_', ' ')}, by epoch"] = [smoothed(name, points)]
    text = {
        "source": "The target was not seen: this is the control of the other methods.",
        "coral": "The distance of the domains' covariances, in each batch.",
        "mmd": "The squared mean discrepancy of the domains' features; unbiased, so that it may be below 0.",
        "dann": "How well the domain classifier does; its accuracy is 0.5 where it can't tell the domains apart.",
    }
    return Section("The domains", text[job.method], plots=curves)


def smoothed(name: str, points: Sequence[tuple[float, float]]) -> Series:
    """A curve of at most some POINTS means."""
    width = max(1, len(points) // POINTS)
    groups = [points[at : at + width] for at in range(0, len(points), width)]
    x, y = ([float(np.mean([point[axis] for point in group])) for group in groups] for axis in (0, 1))
    return Series(name, x, y)
