"""The trainings of a transfer, in the order of their numbers: a run that goes on does what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raysafe.data.labelled import Labelled, first, split
from raysafe.data.labelled_rows import as_npz
from raysafe.generalization.accuracy import model_of, right
from raysafe.generalization.adapting import Adapting, pair_table
from raysafe.generalization.fine_tuning import FineTuning, Start, table
from raysafe.generalization.layers import Classifier, shape_for
from raysafe.generalization.negative_transfer import judge
from raysafe.generalization.transfer_report import Measured, accuracies, comparison, domains, record
from raysafe.models.classifier import labels_of, load_classifier
from raysafe.models.language import model_folder
from raysafe.runtime.fit import fit
from raysafe.runtime.learner import Learner
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    import pyarrow as pa

    from raysafe.generalization.transfer import TransferJob


HELD_OUT = "held-out.npz"
"""The target's test examples."""


def fine_tune(job: TransferJob, run: Run, target: Labelled) -> list[Section]:
    """Training on the target's labels, and where asked for its comparison with training from scratch."""
    pairs = job.comparison.seeds if job.comparison else 1
    numbers = range(2 * pairs if job.comparison else 1)
    shape = shape_for(job.model, target)
    parts = [parts_of(job, target, job.seed + pair) for pair in range(pairs)]
    for number in numbers[trained(run) :]:
        some, scratch = parts[number // 2], number % 2 == 1
        start = Start(shape, target.labels, None if scratch else job.model, job.seed + number // 2)
        learner = FineTuning(job.model_copy(update={"method": "full"}) if scratch else job, start)
        train(job, run, learner, number, table(some["train"]), table(some["validation"]))
    test = parts[0]["test"]
    run.folder.write(HELD_OUT, as_npz(test))
    found = [Measured("accuracy", "target", "after", right(model_of(run, "model"), test))]
    if (before := before_of(job, target)) is not None:
        found.insert(0, Measured("accuracy_before", "target", "before", right(before, test)))
    sections = [accuracies(job, run, target, found)]
    if job.comparison is None:
        return sections
    each = [float(right(model_of(run, place(n)), parts[n // 2]["test"]).mean()) for n in numbers]
    judgement = judge(each[0::2], each[1::2], job.comparison.confidence)
    gain = judgement.gain
    run.event("compared", verdict=judgement.verdict, gain=gain.difference, p_value=gain.p_value)
    record(job, run, target, "transfer_gain", gain.difference, pairs, (gain.low, gain.high))
    return [*sections, comparison(judgement, job.seed, each[0::2], each[1::2])]


def adapt(job: TransferJob, run: Run, source: Labelled, target: Labelled) -> list[Section]:
    """Training on the source's labels beside the target's inputs; the last model is kept."""
    shares = {"train": 1 - job.test_fraction, "test": job.test_fraction}
    known = split(source, shares, job.seed)
    # by lot: shares of each class would need the target's labels
    order = np.random.default_rng(job.seed).permutation(len(target))
    kept = max(1, round(job.test_fraction * len(target)))
    test, inputs = target.take(np.sort(order[:kept])), target.x[order[kept:][: job.train_limit]]
    if not trained(run):
        start = Start(shape_for(job.model, source), source.labels, job.model, job.seed)
        train(job, run, Adapting(job, start), 0, pair_table(known["train"], inputs, job.seed), None)
    run.folder.write(HELD_OUT, as_npz(test))
    model = model_of(run, "model")
    found = [
        Measured("accuracy", "target", "after", right(model, test)),
        Measured("source_accuracy", "source", "after", right(model, known["test"])),
    ]
    if (before := before_of(job, target)) is not None:
        found.insert(0, Measured("accuracy_before", "target", "before", right(before, test)))
    return [accuracies(job, run, target, found), domains(job, run)]


def train(
    job: TransferJob, run: Run, learner: Learner, number: int, rows: pa.Table, validation: pa.Table | None
) -> None:
    """One of the run's trainings."""
    fit(
        learner,
        run,
        job.training,
        train=rows,
        validation=validation,
        seed=job.seed + number // 2,
        address=job.address,
        member=number,
        target=place(number),
    )


def trained(run: Run) -> int:
    """How many of a run's trainings are done."""
    return sum(event["event"] == "trained" for event in run.events)


def place(number: int) -> str:
    """Where in the run a training's model lies: the first one's is the run's."""
    kind = "scratch" if number % 2 else "transferred"
    return f"comparison/{number // 2}/{kind}" if number else "model"


def parts_of(job: TransferJob, target: Labelled, seed: int) -> dict[str, Labelled]:
    """Train, validation and test examples of the target."""
    rest = 1 - job.validation_fraction - job.test_fraction
    parts = split(target, {"train": rest, "validation": job.validation_fraction, "test": job.test_fraction}, seed)
    if job.train_limit is not None:
        parts["train"] = first(parts["train"], job.train_limit)
    return parts


def before_of(job: TransferJob, target: Labelled) -> Classifier | None:
    """The model that was started from, where its classes are the target's."""
    if job.model is None:
        return None
    model = load_classifier(model_folder(job.model))
    return model if labels_of(model) == target.labels else None
