"""Small classifiers and data, and fit() in this process: what a learner does can be tested without Ray."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raysafe.data.labelled import Labelled
from raysafe.models.classifier import load_classifier, save_classifier
from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig
from raysafe.models.vision import Vision, VisionConfig
from raysafe.runtime import parallel
from raysafe.runtime.batches import step_rows, steps_per_epoch
from raysafe.runtime.learner import FitConfig, Learner

LABELS = ("a", "b", "c")


def blobs(rows: int, *, shift: float = 0.0, seed: int = 0, classes: tuple[int, ...] = (0, 1, 2)) -> Labelled:
    """Three Gaussian classes in four dimensions, all of them moved by `shift` along the last."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, rows).astype(np.int64)
    means_KD = 2.0 * np.eye(4)[:3]
    x = means_KD[y] + 0.5 * rng.standard_normal((rows, 4))
    x[:, 3] += shift
    return Labelled(x.astype(np.float32), y, LABELS)


def mlp(labels: tuple[str, ...] = LABELS, hidden: tuple[int, ...] = (8, 6)) -> Mlp:
    torch.manual_seed(3)
    return Mlp(MlpConfig(inputs=4, hidden=hidden, activation="relu", head=ClassifierHead(labels=labels)))


def vision(labels: tuple[str, ...] = LABELS) -> Vision:
    torch.manual_seed(3)
    head = ClassifierHead(labels=labels)
    return Vision(VisionConfig(image=(1, 8, 8), stages=(4, 8), dense=(6,), batch_norm=True, head=head))


def saved(network: Mlp | Vision, folder: Path) -> str:
    save_classifier(network, folder)
    return str(folder)


def fitted(learner: Learner, rows: pa.Table, config: FitConfig, seed: int = 0) -> nn.Module:
    """The module after the steps that fit() would take on one worker."""
    torch.manual_seed(seed)
    module = learner.build()
    groups = parallel.whole_groups(module, learner.rate_groups(module))
    optimizer = parallel.make_optimizer(module, config, groups)
    total = min(steps_per_epoch(rows.num_rows, config.batch_size) * config.epochs, config.max_steps or 10**9)
    for step in range(total):
        module.train()
        learner.before_step(step, total)
        chosen = step_rows(rows.num_rows, config.batch_size, seed=seed, step=step)
        batch = learner.collate(rows.take(pa.array(chosen)))
        parallel.set_rates(optimizer, groups, config.rate(step, total))
        loss, _ = learner.loss(module, batch)
        (loss / batch.weight).backward()
        parallel.hold_back(optimizer, groups, step / total)
        parallel.clip(module, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return module.eval()


def exported(learner: Learner, module: nn.Module) -> Mlp | Vision:
    """The classifier that the run would hold."""
    with tempfile.TemporaryDirectory() as folder:
        learner.save(module, Path(folder))
        return load_classifier(folder)
