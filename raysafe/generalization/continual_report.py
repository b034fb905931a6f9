"""What continual learning leaves behind: the matrix of accuracies, evidence, and the sections of its report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysafe.generalization.forgetting import Continual, Floats, summarise
from raysafe.generalization.tasks import Task
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.records.statistics import wilson_interval
from raysafe.runtime.plots import Heatmap, Plotted, Series
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.generalization.continual import ContinualJob


def report(
    job: ContinualJob, run: Run, tasks: Sequence[Task], found: Sequence[Sequence[NDArray[np.bool_]]]
) -> list[Section]:
    """Evidence and sections; found[i][j]: which test examples of task j were right after task i, 0 being before any."""
    accuracy = np.array([[float(one.mean()) for one in row] for row in found])
    summary = summarise(accuracy[1:], accuracy[0])
    run.event("measured", matrix=accuracy[1:].round(6).tolist(), untrained=accuracy[0].round(6).tolist())
    record(job, run, tasks, found[-1], summary)
    return [_matrix(job, tasks, accuracy), _figures(summary, tasks)]


def record(
    job: ContinualJob, run: Run, tasks: Sequence[Task], last: Sequence[NDArray[np.bool_]], summary: Continual
) -> None:
    """The run's evidence, unless an earlier start of the run has left it."""
    if run.evidence:
        return
    with tempfile.TemporaryDirectory(prefix="raysafe-digest-") as folder:
        run.folder.download("model", folder)
        digest = folder_digest(folder)
    cases = sum(len(one) for one in last)
    # the mean over tasks weighs tasks, not examples: an interval of examples would be another figure's
    whole = hashlib.sha256("".join(task.test.digest for task in tasks).encode()).hexdigest()
    figures: list[tuple[str, float, int, tuple[float, float] | None, str, str]] = [
        ("average_accuracy", summary.average, cases, None, "higher", whole),
        ("backward_transfer", summary.backward_transfer, cases, None, "higher", whole),
        ("worst_forgetting", summary.worst_forgetting, cases, None, "lower", whole),
    ]
    for number, (one, task) in enumerate(zip(last, tasks, strict=True), start=1):
        estimate = wilson_interval(float(one.sum()), len(one))
        figures.append(
            (f"accuracy_{number}", estimate.value, estimate.n, estimate.interval, "higher", task.test.digest)
        )
    run.add_evidence(
        Evidence(
            suite="continual",
            metric=metric,
            value=value,
            n=n,
            interval=interval,
            better="higher" if better == "higher" else "lower",
            model_digest=digest,
            data_digest=digest_of_data,
            settings={"method": job.method, "scenario": job.scenario, "tasks": " ".join(task.name for task in tasks)},
            run=run.uri,
        )
        for metric, value, n, interval, better, digest_of_data in figures
    )


def _matrix(job: ContinualJob, tasks: Sequence[Task], accuracy: Floats) -> Section:
    names = [task.name for task in tasks]
    rows: list[list[Any]] = [["after", *names]]
    for after, row in zip(["nothing", *names], accuracy, strict=True):
        rows.append([after, *map(float, row)])
    learned = list(range(len(tasks) + 1))
    curves = [Series(name, learned, accuracy[:, place].tolist()) for place, name in enumerate(names)]
    plots: dict[str, Plotted] = {
        "accuracy on each task, by tasks learned": curves,
        "after each task (down), on each task (across)": Heatmap(accuracy[1:].tolist()),
    }
    among = "among all classes" if job.scenario == "class" else "among the classes of its task, which is told"
    text = f"Accuracy on each task's held-out examples, {among}, after each task was learned (method {job.method})."
    return Section("Accuracy after each task", text, rows, plots)


def _figures(summary: Continual, tasks: Sequence[Task]) -> Section:
    rows: list[list[Any]] = [["figure", "value"]]
    rows += [["accuracy at the end, mean of the tasks", summary.average]]
    rows += [["backward transfer", summary.backward_transfer]]
    if summary.forward_transfer is not None:
        rows += [["forward transfer", summary.forward_transfer]]
    rows += [[f"forgetting of {task.name}", lost] for task, lost in zip(tasks, summary.forgetting_T, strict=False)]
    text = (
        "Backward transfer: accuracy on earlier tasks at the end less that when they were learned, so below 0 where "
        "they were forgotten. Forward transfer: accuracy on a task just before it is learned less an untrained "
        "network's. Forgetting: the best accuracy that a task ever had less the one at the end."
    )
    return Section("Transfer and forgetting", text, rows)
