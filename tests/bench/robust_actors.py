"""Two actors against one: robustness of a classifier, the same samples, wall time on an idle machine.

python -m tests.bench.robust_actors            trains a network on MNIST first; takes some minutes on 2 cores
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

SAMPLES, EPOCHS = 512, 2
TARGET = 1.7


def measure(samples: int = SAMPLES) -> dict[str, float]:
    """Seconds of 1 and 2 actors, Ray's and the actors' start left out, and their ratio."""
    from raysafe.data.labelled import first, load_labelled
    from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig, save_mlp
    from raysafe.robustness.attacks.settings import PGD
    from raysafe.robustness.evaluate import RobustnessSettings, evaluate_robustness
    from raysafe.runtime.cluster import Needs, connect

    labelled = load_labelled("mnist")
    torch.manual_seed(0)
    head = ClassifierHead(labels=labelled.labels)
    flat = labelled.x.reshape(len(labelled), -1)
    model = Mlp(MlpConfig(inputs=flat.shape[1], hidden=(256, 256), activation="relu", head=head))
    _train(model, torch.tensor(flat), torch.tensor(labelled.y))
    few = first(labelled, samples)
    few = type(few)(few.x.reshape(len(few), -1), few.y, few.labels)
    settings = RobustnessSettings(attacks=(PGD(steps=100, restarts=5),), epsilons=(0.1,), hygiene=0)
    connect()
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        save_mlp(model, Path(folder, "model"))
        for actors in (1, 2):
            os.environ["RAYSAFE_CACHE"] = str(Path(folder, f"cache-{actors}"))
            took = []
            # the start of actors costs the same each time: the difference of a whole and a half is work alone
            for part in (few, few.take(np.arange(len(few) // 2))):
                begun = time.perf_counter()
                needs = Needs(workers=actors, cpus=1)
                evaluate_robustness(str(Path(folder, "model")), part, settings, key=f"bench-{actors}", needs=needs)
                took.append(time.perf_counter() - begun)
            seconds[f"{actors} actors"] = took[0] - took[1]
    return seconds | {"speed-up": seconds["1 actors"] / seconds["2 actors"]}


def _train(model: nn.Module, x_ND: torch.Tensor, y_N: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x_ND)).split(64):
            loss = nn.functional.cross_entropy(model(x_ND[rows]), y_N[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    found = measure()
    for name, value in found.items():
        print(f"{name:10} {value:.2f}")
    print(f"target     {TARGET}: {'met' if found['speed-up'] >= TARGET else 'missed'}")
