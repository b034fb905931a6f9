"""Training on bounds: the schedule, bounds that hold, and certificates that only such training gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from raysafe.data.labelled import Labelled
from raysafe.errors import ConfigError
from raysafe.models.mlp import ClassifierHead, MlpConfig
from raysafe.robustness.adversarial_training import RobustLearner, table
from raysafe.robustness.certified_training import CertifiedLearner
from raysafe.robustness.settings import Defence, Schedule

LINEAR = MlpConfig(inputs=3, head=ClassifierHead(labels=("a", "b")))
DEEP = MlpConfig(inputs=10, hidden=(16, 16), activation="relu", head=ClassifierHead(labels=("a", "b")))
VECTORS = Labelled(np.array([[0.2, 0.4, 0.6], [0.9, 0.5, 0.5]], np.float32), np.array([0, 1]), ("a", "b"))


def test_epsilon_grows_linearly_between_start_and_end() -> None:
    schedule = Schedule(start=0.2, end=0.6)
    assert [schedule.ramp(step, 10) for step in (0, 2, 4, 6, 9)] == pytest.approx([0, 0, 0.5, 1, 1])
    with pytest.raises(ConfigError, match="start must lie before end"):
        Schedule(start=0.6, end=0.2)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_the_worst_case_of_a_linear_network_is_exact(method: Any) -> None:
    learner = CertifiedLearner(Defence(method=method, epsilon=0.1, clean_weight=0.0), LINEAR)
    network, batch = learner.build(), learner.collate(table(VECTORS))
    learner.before_step(10, 10)
    loss, _ = learner.loss(network, batch)
    weights_KD = next(network.parameters()).detach()
    toward_KD = weights_KD.flip(0) - weights_KD
    worst = batch.x + 0.1 * toward_KD[batch.y_B].sign()
    torch.testing.assert_close(loss, cross_entropy(network(worst), batch.y_B, reduction="sum"), rtol=1e-4, atol=1e-4)


def test_before_the_schedule_begins_the_loss_is_the_clean_one() -> None:
    learner = CertifiedLearner(Defence(method="ibp", epsilon=0.1), LINEAR)
    network, batch = learner.build(), learner.collate(table(VECTORS))
    learner.before_step(0, 10)
    torch.testing.assert_close(
        learner.loss(network, batch)[0], cross_entropy(network(batch.x), batch.y_B, reduction="sum")
    )


def blobs(rows: int, seed: int) -> Labelled:
    """Two classes that one feature tells apart by a margin of 0.1, and nine features that say nothing."""
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 10), np.float32)
    y = rng.integers(0, 2, rows)
    x[:, 0] = np.where(y == 1, 0.7, 0.3) + 0.2 * (rng.random(rows) - 0.5)
    return Labelled(x.astype(np.float32), y.astype(np.int64), ("a", "b"))


def certified_after(method: Any) -> float:
    """Share of held-out examples that are certified after 150 steps."""
    defence = Defence(method=method, epsilon=0.08)
    learner = CertifiedLearner(defence, DEEP, seed=1)
    trainer = RobustLearner(defence, DEEP, seed=1) if method == "standard" else learner
    network, batch = learner.build(), learner.collate(table(blobs(200, 0)))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(150):
        trainer.before_step(step, 150)
        optimizer.zero_grad()
        (trainer.loss(network.train(), batch)[0] / 200).backward()
        optimizer.step()
    held = learner.collate(table(blobs(200, 1)))
    with torch.no_grad():
        _, metrics = learner.loss(network.eval(), held)
    assert metrics["accuracy"][0] == 200
    assert metrics["certified_accuracy"][0] <= metrics["robust_accuracy"][0]
    return float(metrics["certified_accuracy"][0]) / 200


def test_training_on_bounds_certifies_held_out_examples_that_plain_training_does_not() -> None:
    assert certified_after("ibp") > 0.95
    assert certified_after("crown-ibp") > 0.95
    assert certified_after("standard") < 0.8
