"""What a run of adversarial training shows: its curves, and the best checkpoint beside the last on held-out rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from raysafe.models.classifier import load_classifier
from raysafe.robustness.attacks.settings import PGD
from raysafe.runtime.bar import Bar
from raysafe.runtime.checkpoint import read_weights, spread_weights
from raysafe.runtime.plots import Series
from raysafe.runtime.report import Section
from raysafe.runtime.storage import Folder

if TYPE_CHECKING:
    from raysafe.data.labelled import Labelled
    from raysafe.robustness.adversarial_training import RobustLearner
    from raysafe.robustness.job import AdversarialJob
    from raysafe.runtime.fit import FitResult
    from raysafe.runtime.run import Run

LAST = "last"
"""Folder of the last checkpoint's model in the run, where the best is another."""
_CURVES = ("accuracy", "robust_accuracy", "noisy_accuracy", "certified_accuracy", "fgsm_accuracy")
_BATCH = 256


def keep_last(learner: RobustLearner, run: Run, result: FitResult) -> None:
    """Leave the last checkpoint's model in last/, unless it is the best."""
    if result.best_step in (None, result.steps):
        return
    module = learner.build()
    with tempfile.TemporaryDirectory(prefix="raysafe-last-") as scratch:
        folder = Path(scratch)
        name = "weights.safetensors"
        (folder / name).write_bytes(run.folder.read(f"checkpoints/step-{result.steps:08d}/{name}"))
        spread_weights(module, read_weights(folder))
        learner.save(module, folder / LAST)
        Folder(run.uri).upload(folder / LAST, LAST)


def test(job: AdversarialJob, run: Run, held: Labelled) -> None:
    """Measure the best and the last model on held-out examples, as an event of the run."""
    figures = {}
    names = ["model", *([LAST] if run.folder.exists(LAST) else [])]
    with Bar("held-out examples", total=len(names) * len(held), unit="example") as bar:
        for name in names:
            with tempfile.TemporaryDirectory(prefix="raysafe-test-") as folder:
                run.folder.download(name, folder)
                figures[name] = _measured(job, load_classifier(folder), held, bar)
    run.event("tested", examples=len(held), attack=f"PGD-{job.test_steps}", epsilon=job.epsilon, figures=figures)


def _measured(job: AdversarialJob, model: nn.Module, held: Labelled, bar: Bar) -> dict[str, float]:
    attack = PGD(steps=job.test_steps, seed=job.seed)
    right = robust = 0
    for start in range(0, len(held), _BATCH):
        x, y_B = (torch.from_numpy(values[start : start + _BATCH]) for values in (held.x, held.y))
        with torch.inference_mode():
            right += int((model(x).argmax(-1) == y_B).sum())
        sample_B = torch.arange(start, start + len(x))
        found = attack(model, x, y_B, norm=job.norm, epsilon=job.epsilon, sample=sample_B)
        robust += int((~found.success).sum())
        bar.advance(len(x))
    return {"accuracy": right / len(held), "robust_accuracy": robust / len(held)}


def sections(job: AdversarialJob, run: Run, result: FitResult) -> list[Section]:
    """Curves over the epochs, and held-out figures."""
    rows = run.metrics
    curves = []
    for name in _CURVES:
        points = [(row["epoch"], row[f"validation/{name}"]) for row in rows if f"validation/{name}" in row]
        if points:
            curves.append(Series(name.replace("_", " "), [x for x, _ in points], [y for _, y in points]))
    chosen = next((row["epoch"] for row in rows if row["step"] == result.best_step), None)
    said = f"On validation rows, within {job.norm} {job.epsilon:g}. " + (
        f"The model is that of epoch {chosen:g}, the best by {job.fitting.monitor}." if chosen is not None else ""
    )
    early = next((e["why"] for e in reversed(run.events) if e["event"] == "stopped-early"), None)
    found = [Section("Over the epochs", f"{said} {f'Stopped early: {early}.' if early else ''}", plots={"": curves})]
    tested = next((e for e in reversed(run.events) if e["event"] == "tested"), None)
    if tested is not None:
        table = [["checkpoint", "accuracy", f"under {tested['attack']}"]]
        for name, figures in tested["figures"].items():
            table.append(["last" if name == LAST else "best", figures["accuracy"], figures["robust_accuracy"]])
        found.append(Section("Held-out examples", f"{tested['examples']} that no choice was made by.", table))
    return found
