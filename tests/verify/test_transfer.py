"""What rehearsal keeps of the first half of the digits, and what adaptation without labels gains from MNIST to digits.

The learners take the very steps that fit() takes on one worker, in this process: five seeds of each would otherwise
spend their time on starting workers. That fit() takes these steps is tested in tests/runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from raysafe.data.labelled import Labelled, load_labelled, split
from raysafe.generalization.accuracy import right
from raysafe.generalization.adapting import Adapting, pair_table
from raysafe.generalization.continual import ContinualJob
from raysafe.generalization.continual_run import remembered
from raysafe.generalization.continuing import Continuing, Earlier, with_memory
from raysafe.generalization.fine_tuning import Start
from raysafe.generalization.forgetting import summarise
from raysafe.generalization.images import resized
from raysafe.generalization.layers import Classifier, small_network
from raysafe.generalization.tasks import Task, divide, make_task
from raysafe.generalization.transfer_settings import TransferSettings
from raysafe.models.classifier import save_classifier
from raysafe.records.statistics import PairedTest, mean_interval, paired_t
from tests.generalization.here import exported, fitted
from tests.verify.readme import publish

SEEDS, ORDERS = 5, 3
HALVES = ("0,1,2,3,4", "5,6,7,8,9")
EPOCHS = 20
SIZE = (8, 8)
METHODS = ("source", "coral", "mmd", "dann")


def learned(method: str, seed: int, folder: str) -> np.ndarray:
    """The matrix of accuracies of the halves of the digits, learned one after the other."""
    job = ContinualJob.parse({"method": method, "data": ["digits"], "tasks": HALVES, "seed": seed})
    data = load_labelled("digits")
    tasks: Sequence[Task] = [
        make_task(name, part, job.validation_fraction, job.test_fraction, seed)
        for name, part in zip(HALVES, divide(data, job.class_groups), strict=True)
    ]
    start = Start(small_network(data), data.labels, None, seed)
    rows = []
    for number, task in enumerate(tasks):
        earlier = Earlier(folder, tuple(f"{method}-{seed}-{before}" for before in range(number)))
        learner = Continuing(job, start, [one.classes for one in tasks[: number + 1]], earlier)
        table = with_memory(task.train, remembered(job, tasks[:number]))
        network = exported(learner, fitted(learner, table, job.training, seed + number))
        save_classifier(network, f"{folder}/{method}-{seed}-{number}")
        rows.append([right(network, one.test).mean() for one in tasks])
    return np.array(rows)


@pytest.mark.slow
def test_rehearsal_keeps_both_halves_of_the_digits_and_plain_fine_tuning_does_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    torch.set_num_threads(1)
    folder = str(tmp_path_factory.mktemp("tasks"))
    lines = []
    for method in ("plain", "rehearsal"):
        found = [learned(method, seed, folder) for seed in range(ORDERS)]
        old, new = (np.array([matrix[-1, task] for matrix in found]) for task in range(2))
        if method == "rehearsal":
            assert old.min() >= 0.9 and new.min() >= 0.9
        else:
            assert old.max() <= 0.2 and new.min() >= 0.9
        back = np.mean([summarise(matrix).backward_transfer for matrix in found])
        lines.append(
            f"| {method} | {np.mean([m[0, 0] for m in found]):.1%} | {old.mean():.1%} (worst {old.min():.1%}) "
            f"| {new.mean():.1%} (worst {new.min():.1%}) | {100 * back:+.1f} points |"
        )
    publish(
        "forgetting",
        "| method | 0 to 4 when learned | 0 to 4 at the end | 5 to 9 at the end | backward transfer |\n"
        "|---|---|---|---|---|\n" + "\n".join(lines) + "\n\n"
        f"Held-out digits, one head over all ten classes, means of {ORDERS} seeds; rehearsal keeps 200 examples.",
    )


def adapted(method: str, seed: int, source: Labelled, target: Labelled) -> float:
    """Accuracy on held-out target examples of the last model, whose training saw no label of the target."""
    values = {"method": method, "source": "mnist", "data": "digits", "training": {"epochs": EPOCHS}}
    settings = TransferSettings.parse(values)
    known = split(source, {"train": 0.8, "test": 0.2}, seed)["train"]
    order = np.random.default_rng(seed).permutation(len(target))
    held = round(0.2 * len(target))
    learner = Adapting(settings, Start(small_network(source), source.labels, None, seed))
    rows = pair_table(known, target.x[order[held:]], seed)
    network: Classifier = exported(learner, fitted(learner, rows, settings.training, seed))
    return float(right(network, target.take(np.sort(order[:held]))).mean())


@pytest.mark.slow
def test_adaptation_beats_the_source_alone_from_mnist_to_digits() -> None:
    torch.set_num_threads(1)
    source, target = (resized(load_labelled(name), SIZE) for name in ("mnist", "digits"))
    found = {method: [adapted(method, seed, source, target) for seed in range(SEEDS)] for method in METHODS}
    tests: dict[str, PairedTest] = {
        method: paired_t(found[method], found["source"]) for method in METHODS if method != "source"
    }
    best = max((tests["coral"], tests["dann"]), key=lambda test: test.low)
    lines = []
    for method, accuracies in found.items():
        mean = mean_interval(accuracies)
        test = tests.get(method)
        gain = "" if test is None else f"{100 * test.difference:+.1f} points ({100 * test.low:+.1f} to "
        gain += "" if test is None else f"{100 * test.high:+.1f}), p = {test.p_value:.2g}"
        lines.append(f"| {method} | {mean.value:.1%} ({mean.low:.1%} to {mean.high:.1%}) | {gain} |")
    text = (
        "| method | accuracy on digits | gained over source alone |\n|---|---|---|\n" + "\n".join(lines) + "\n\n"
        f"4,000 labelled images of MNIST and 1,438 unlabelled digits, both at {SIZE[0]} x {SIZE[1]}; held-out digits, "
        f"{SEEDS} seeds, {EPOCHS} epochs, 95% intervals, paired t tests. The last model counts: no label of a digit is "
        "used before it."
    )
    # the better of two, by Bonferroni's correction
    assert best.difference > 0 and 2 * best.p_value < 0.05
    publish("transfer", text)
