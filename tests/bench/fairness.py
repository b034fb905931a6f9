"""Gaps against fairlearn's, and training under a tolerance against its reduction: `python -m tests.bench.fairness`.

--peers names the Python of an environment with tests/bench/fairness-requirements.txt. The reduction (Agarwal et al.
2018) and ours get the same rows of COMPAS, a linear model, and the same tolerances.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysafe.data.grouped import Grouped, load_grouped, split_grouped
from raysafe.generalization.classifier_learner import ClassifierLearner, Constrained, group_names, rows_of, standard
from raysafe.generalization.fairness import fairness
from raysafe.generalization.predictions import predict
from raysafe.generalization.settings import FairTraining, Regularisation
from raysafe.models.mlp import ClassifierHead, MlpConfig
from raysafe.runtime.batches import step_rows, steps_per_epoch
from raysafe.runtime.learner import FitConfig
from tests.real_data import FAIRNESS

GAPS = ("demographic_parity_gap", "equalised_odds_gap", "equal_opportunity_gap")
TOLERANCES = (0.2, 0.1, 0.05, 0.02)
EPOCHS, BATCH, RATE = 40, 256, 3e-3
COMPAS_PREDICTIONS = ("decile-score", "score-text_High", "score-text_Low", "score-text_Medium")


def ask(peers: str, **arrays: np.ndarray) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "arrays.npz"), **arrays)  # type: ignore[arg-type]
        command = [peers, "-m", "tests.bench.fairness_peer", str(Path(folder, "arrays.npz"))]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def metrics(peers: str, cases: int = 50) -> float:
    """The largest difference between our gaps and fairlearn's, over random decisions."""
    rng = np.random.default_rng(0)
    selected, qualified = (rng.random((cases, 300)) < rng.uniform(0.2, 0.8, (cases, 1)) for _ in range(2))
    groups = rng.choice(["a", "b", "c"], (cases, 300), p=[0.6, 0.3, 0.1])
    theirs = ask(peers, selected=selected, qualified=qualified, groups=groups)
    worst = 0.0
    for i in range(cases):
        ours = fairness(selected[i], qualified[i], groups[i])
        found = (ours.demographic_parity, ours.equalised_odds, ours.equal_opportunity)
        for name, gap in zip(GAPS, found, strict=True):
            assert gap is not None
            worst = max(worst, abs(gap.value - theirs[i][name]))
    return worst


def constrained(parts: dict[str, Grouped], tolerance: float) -> dict[str, float]:
    """Our learner's linear model under a tolerance, of the epoch that validation rows choose, as the job does."""
    train, test = parts["train"], parts["test"]
    names = sorted(set(group_names(train).tolist()))
    learner = ClassifierLearner(
        MlpConfig(inputs=train.labelled.x.shape[1], normalise=True, head=ClassifierHead(labels=train.labelled.labels)),
        train.features,
        mean_std=standard(train.labelled.x),
        favourable=0,
        groups=len(names),
        regularisation=Regularisation(),
        fair=FairTraining(tolerance=tolerance),
        batch_size=BATCH,
    )
    torch.manual_seed(0)
    module, rows = learner.build(), rows_of(train, names)
    assert isinstance(module, Constrained)
    validation = learner.collate(rows_of(parts["validation"], names))
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    epoch = steps_per_epoch(rows.num_rows, BATCH)
    schedule, best = FitConfig(learning_rate=RATE), (math.inf, module.state_dict())
    for step in range(EPOCHS * epoch):
        optimizer.param_groups[0]["lr"] = schedule.rate(step, EPOCHS * epoch)
        batch = learner.collate(rows.take(step_rows(rows.num_rows, BATCH, seed=0, step=step)))
        optimizer.zero_grad()
        (learner.loss(module.train(), batch)[0] / batch.weight).backward()
        optimizer.step()
        if (step + 1) % epoch == 0:
            with torch.no_grad():
                loss = float(learner.loss(module.eval(), validation)[0])
            if loss < best[0]:
                best = (loss, {name: tensor.clone() for name, tensor in module.state_dict().items()})
    module.load_state_dict(best[1])
    with tempfile.TemporaryDirectory() as folder:
        learner.save(module, Path(folder))
        found = predict(folder, test)
    fair = found.by_group(group_names(test), test.labelled.labels[0])
    assert fair.equalised_odds is not None
    return {
        "accuracy": found.accuracy.value,
        "demographic_parity_gap": fair.demographic_parity.value,
        "equalised_odds_gap": fair.equalised_odds.value,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True)
    peers = parser.parse_args().peers
    print(f"gaps: largest difference from fairlearn's {metrics(peers):.1e}")
    whole = load_grouped(
        str(FAIRNESS / "compas.csv"), label="two-year-recid", groups=["race"], drop=["sex", *COMPAS_PREDICTIONS]
    )
    parts = split_grouped(whole, {"train": 0.45, "validation": 0.15, "test": 0.4}, 0)
    mean_D, std_D = standard(parts["train"].labelled.x)
    arrays: dict[str, np.ndarray] = {"tolerances": np.array(TOLERANCES)}
    # the reduction needs no validation rows, and learns from them too
    for prefix, names in (("", ("train", "validation")), ("test_", ("test",))):
        some = [parts[name] for name in names]
        arrays[f"{prefix}x"] = np.concatenate([(part.labelled.x - mean_D) / std_D for part in some])
        arrays[f"{prefix}y"] = 1 - np.concatenate([part.labelled.y for part in some])
        arrays[f"{prefix}g"] = np.concatenate([part.groups["race"] for part in some])
    theirs = ask(peers, **arrays)
    print(f"COMPAS, {len(parts['test'])} held-out rows: accuracy / parity gap / odds gap")
    for tolerance in TOLERANCES:
        figures = (constrained(parts, tolerance), theirs[str(tolerance)])
        shown = [
            f"{one['accuracy']:.3f} / {one['demographic_parity_gap']:.3f} / {one['equalised_odds_gap']:.3f}"
            for one in figures
        ]
        print(f"tolerance {tolerance:<5} raysafe {shown[0]}   fairlearn's reduction {shown[1]}")


if __name__ == "__main__":
    main()
