"""Certificates of digits beside auto_LiRPA: CPU seconds per 1,000, and the bounds' differences in double precision.

python -m tests.bench.certify --peer PYTHON   (an environment with auto_LiRPA)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

EPSILON, DIGITS, ROUNDS = 0.1, 100, 3
TARGETS = {"IBP": 0.23, "CROWN": 14.0}
METHODS = ("IBP", "CROWN-IBP", "CROWN")


def network() -> nn.Module:
    """Two strided convolutions and two dense layers, with the same random weights on both sides."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    ).eval()  # fmt: skip


def digits() -> Tensor:
    """From scikit-learn, which both sides have."""
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:DIGITS]).float().unsqueeze(1) / 16


def ours(model: nn.Module, x: Tensor, y_B: Tensor) -> dict[str, Callable[[], Tensor]]:
    from raysafe.robustness.certify.graph import Graph
    from raysafe.robustness.certify.interval import box
    from raysafe.robustness.certify.margins import interval_margins, linear_margins, tightened_entries

    graph, inputs = Graph(model), box(x, EPSILON)
    return {
        "IBP": lambda: interval_margins(graph.entries(inputs), y_B),
        "CROWN-IBP": lambda: linear_margins(graph.entries(inputs), y_B),
        "CROWN": lambda: linear_margins(tightened_entries(graph, inputs), y_B),
    }


def peers(model: nn.Module, x: Tensor, y_B: Tensor) -> dict[str, Callable[[], Tensor]]:
    from auto_LiRPA import BoundedModule, BoundedTensor  # type: ignore[import-not-found]
    from auto_LiRPA.perturbations import PerturbationLpNorm  # type: ignore[import-not-found]

    bounded = BoundedModule(model, x, device="cpu")
    ball = PerturbationLpNorm(norm=float("inf"), x_L=(x - EPSILON).clamp(min=0), x_U=(x + EPSILON).clamp(max=1))
    rows_BKK = torch.eye(10, dtype=x.dtype)[y_B].unsqueeze(1) - torch.eye(10, dtype=x.dtype)

    def margins(method: str) -> Tensor:
        inputs = (BoundedTensor(x, ball),)
        return bounded.compute_bounds(x=inputs, C=rows_BKK, method=method, bound_upper=False)[0]

    return {method: lambda method=method: margins(method) for method in METHODS}


@torch.no_grad()
def measure(side: Callable[[nn.Module, Tensor, Tensor], dict[str, Callable[[], Tensor]]]) -> dict[str, dict]:
    """The least CPU seconds per 1,000 digits of three rounds, and the margins of the first ten in double precision."""
    torch.set_num_threads(1)
    model, x = network(), digits()
    y_B = model(x).argmax(1)
    found: dict[str, dict] = {}
    for method, margins in side(model, x, y_B).items():
        seconds = []
        for _ in range(ROUNDS):
            start = time.process_time()
            margins()
            seconds.append((time.process_time() - start) * 1000 / len(x))
        found[method] = {"seconds": min(seconds)}
    for method, margins in side(model.double(), x[:10].double(), y_B[:10]).items():
        found[method]["margins"] = margins().tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="a Python that has auto_LiRPA")
    parser.add_argument("--side", choices=("ours", "peer"), help="print the measurements of one side as JSON")
    given = parser.parse_args()
    if given.side:
        json.dump(measure(ours if given.side == "ours" else peers), sys.stdout)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(python: str, side: str) -> dict[str, dict]:
        command = [python, "-m", "tests.bench.certify", "--side", side]
        printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
        return json.loads(printed[printed.index("{") :])

    mine = run(sys.executable, "ours")
    theirs = run(given.peer, "peer") if given.peer else None
    print("method      CPU s per 1,000 digits   auto_LiRPA   largest and least difference of margins")
    for method in METHODS:
        line = f"{method:<11} {mine[method]['seconds']:>22.3f}"
        if theirs:
            apart = torch.tensor(mine[method]["margins"], dtype=torch.float64) - torch.tensor(
                theirs[method]["margins"], dtype=torch.float64
            )
            line += f"   {theirs[method]['seconds']:>10.3f}   {apart.max():+.1e} {apart.min():+.1e}"
        target = f"   (target {TARGETS[method]:g})" if method in TARGETS else ""
        print(line + target)
        if method in TARGETS and mine[method]["seconds"] > TARGETS[method]:
            print(f"{method} is above its target")


if __name__ == "__main__":
    main()
