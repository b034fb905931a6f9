"""Adversarial training: what PGD-AT holds that plain training doesn't."""

from __future__ import annotations

import pytest
import torch

from raysafe.data.labelled import Labelled, load_labelled
from raysafe.models.classifier import load_classifier
from raysafe.robustness.attacks.settings import PGD
from raysafe.robustness.job import HELD_OUT
from raysafe.runtime.run import Run
from tests.verify.readme import publish
from tests.verify.shell import Shell

ATTACK = PGD(steps=100, restarts=5, seed=1)
PRESET = "raysafe adversarial --config jobs/presets/adversarial_{}.yaml"
PLAIN = (
    "raysafe adversarial --method standard --data {} --epsilon {:g} --network.pooling {} --training.epochs 15 "
    "--training.learning-rate 0.002"
)
POOLING = {"digits": "max", "mnist": "stride"}
LEAST = {"digits": (0.96, 0.77), "mnist": (0.95, 0.75)}
"""Accuracy, which plain training has too, and accuracy under attack, that PGD-AT has at the least."""


def measured(run: Run, name: str, held: Labelled, epsilon: float) -> tuple[float, float]:
    """Clean accuracy, and accuracy under PGD-100 with 5 restarts."""
    model = load_classifier(run.folder.local_path(name))
    x, y_B = torch.from_numpy(held.x), torch.from_numpy(held.y)
    with torch.no_grad():
        clean = float((model(x).argmax(-1) == y_B).float().mean())
    found = ATTACK(model, x, y_B, norm="linf", epsilon=epsilon)
    return clean, float((~found.success).float().mean())


@pytest.mark.slow
def test_adversarial_training_holds_on_digits_where_plain_training_falls(shell: Shell) -> None:
    publish("adversarial-training-digits", trained_both_ways(shell, "digits", 0.1))


@pytest.mark.slow
def test_adversarial_training_holds_on_mnist_where_plain_training_falls(shell: Shell) -> None:
    publish("adversarial-training-mnist", trained_both_ways(shell, "mnist", 0.2))


def trained_both_ways(shell: Shell, data: str, epsilon: float) -> str:
    """The table, of figures that are as they must be."""
    found = {}
    commands = {"plain training": PLAIN.format(data, epsilon, POOLING[data]), "PGD-AT": PRESET.format(data)}
    for method, command in commands.items():
        run = shell.opened(shell.run(command, named=True))
        held = load_labelled(str(run.folder.local_path(HELD_OUT)))
        # the best under attack is, of plain training, an early one that knows little yet
        found[method] = measured(run, "last" if method == "plain training" else "model", held, epsilon)
    (plain_clean, plain_robust), (clean, robust) = found.values()
    assert plain_clean >= LEAST[data][0]
    assert clean >= LEAST[data][0] and robust >= max(LEAST[data][1], plain_robust + 0.15)
    rows = [f"| {method} | {a:.3f} | {b:.3f} |" for method, (a, b) in found.items()]
    heading = f"{data}, {len(held)} held out | accuracy | under PGD-100, 5 restarts, L-inf {epsilon:g}"
    return f"| {heading} |\n|---|---|---|\n" + "\n".join(rows)
