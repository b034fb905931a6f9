"""The tasks of a continual run, learned in their order: a run that goes on does what is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from raysafe.data.labelled_rows import as_npz
from raysafe.generalization.accuracy import model_of, right
from raysafe.generalization.continual_report import report
from raysafe.generalization.continual_settings import Consolidation, Rehearsal
from raysafe.generalization.continuing import IMPORTANCE, Continuing, Earlier, with_memory, write_importance
from raysafe.generalization.fine_tuning import Start, table
from raysafe.generalization.fisher import Importance, diagonal_fisher
from raysafe.generalization.layers import Classifier, shape_for
from raysafe.generalization.reservoir import Reservoir
from raysafe.generalization.tasks import Task
from raysafe.runtime.bar import Bar
from raysafe.runtime.fit import fit
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.generalization.continual import ContinualJob

HELD_OUT = "held-out/{}.npz"
"""Of each task, counted from 1: what `raysafe evaluate --suite forgetting` can examine later models on."""


def learn(job: ContinualJob, run: Run, tasks: Sequence[Task]) -> list[Section]:
    """Learn every task, measure the model after each on all, and tell."""
    first = tasks[0].train
    start = Start(shape_for(job.model, first), first.labels, job.model, job.seed)
    places = tuple(f"tasks/{number}" for number in range(1, len(tasks) + 1))
    done = sum(event["event"] == "trained" for event in run.events)
    for number, task in enumerate(tasks):
        run.folder.write(HELD_OUT.format(number + 1), as_npz(task.test))
        if number >= done:
            learner = Continuing(
                job, start, [one.classes for one in tasks[: number + 1]], Earlier(run.uri, places[:number])
            )
            fit(
                learner,
                run,
                job.training,
                train=with_memory(task.train, remembered(job, tasks[:number])),
                validation=table(task.validation),
                seed=job.seed + number,
                address=job.address,
                member=number,
                target=places[number],
            )
        if job.method == "ewc" and number + 1 < len(tasks):
            keep_importance(job, run, task, places[number])
    if not run.folder.exists("model"):
        with tempfile.TemporaryDirectory(prefix="raysafe-continual-") as folder:
            run.folder.download(places[-1], folder)
            run.folder.upload(folder, "model")
    models = [start.network(), *(model_of(run, place) for place in places)]
    return report(job, run, tasks, [outcomes(job, model, tasks) for model in models])


def outcomes(job: ContinualJob, model: Classifier, tasks: Sequence[Task]) -> list[NDArray[np.bool_]]:
    """Which of each task's test examples are right."""
    return [right(model, task.test, task.classes if job.scenario == "task" else None) for task in tasks]


def remembered(job: ContinualJob, tasks: Sequence[Task]) -> list[tuple[np.ndarray, int]]:
    """What the memory holds after these tasks, each of which went by in an order of its own."""
    if job.method != "rehearsal":
        return []
    memory: Reservoir[tuple[np.ndarray, int]] = Reservoir((job.rehearsal or Rehearsal()).memory, job.seed)
    for number, task in enumerate(tasks):
        for place in np.random.default_rng((job.seed, number)).permutation(len(task.train)):
            memory.offer((task.train.x[place], int(task.train.y[place])))
    return memory.items


def keep_importance(job: ContinualJob, run: Run, task: Task, place: str) -> None:
    """Leave the Fisher information of a task beside its model, unless it is there."""
    name = f"{place}/{IMPORTANCE}"
    if run.folder.exists(name):
        return
    network = model_of(run, place)
    chosen = np.random.default_rng(job.seed).permutation(len(task.train))
    x = torch.from_numpy(task.train.x[chosen[: (job.consolidation or Consolidation()).examples]])
    classes = task.classes if job.scenario == "task" else range(len(task.train.labels))
    with Bar(f"what {task.name} needs of the weights", total=len(x), unit="example") as bar:
        fisher = diagonal_fisher(network, x, list(classes), progress=bar.advance)
    weights = {key: parameter.detach() for key, parameter in network.named_parameters()}
    with tempfile.TemporaryDirectory(prefix="raysafe-importance-") as folder:
        write_importance(Importance(weights, fisher), Path(folder) / IMPORTANCE)
        run.folder.write(name, (Path(folder) / IMPORTANCE).read_bytes())
