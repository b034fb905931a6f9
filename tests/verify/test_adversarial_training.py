"""Adversarial training: what PGD-AT holds that plain training doesn't, and why the checkpoint is chosen."""

from __future__ import annotations

import pytest
import torch

from raysafe.data.labelled import Labelled, load_labelled
from raysafe.models.classifier import load_classifier
from raysafe.robustness.attacks.settings import PGD
from raysafe.robustness.job import HELD_OUT
from raysafe.runtime.run import Run
from tests.verify.shell import Shell

ATTACK = PGD(steps=100, restarts=5, seed=1)


def measured(run: Run, name: str, held: Labelled, epsilon: float) -> tuple[float, float]:
    """Clean accuracy, and accuracy under PGD-100 with 5 restarts."""
    model = load_classifier(run.folder.local_path(name))
    x, y_B = torch.from_numpy(held.x), torch.from_numpy(held.y)
    with torch.no_grad():
        clean = float((model(x).argmax(-1) == y_B).float().mean())
    found = ATTACK(model, x, y_B, norm="linf", epsilon=epsilon)
    return clean, float((~found.success).float().mean())


@pytest.mark.slow
def test_adversarial_training_holds_where_plain_training_falls(shell: Shell) -> None:
    rows = []
    for data, epsilon in (("digits", 0.1), ("mnist", 0.2)):
        preset = f"raysafe adversarial --config jobs/presets/adversarial_{data}.yaml"
        for method, flags in (("standard", " --method standard --training.epochs 15"), ("PGD", "")):
            run = shell.opened(shell.run(preset + flags, named=True))
            held = load_labelled(str(run.folder.local_path(HELD_OUT)))
            clean, robust = measured(run, "model", held, epsilon)
            rows.append(f"| {data}, {epsilon:g} | {method} | {clean:.3f} | {robust:.3f} |")
