"""RaySafe's attacks against Foolbox, ART, torchattacks and pyautoattack: `python -m tests.bench.attacks --peer PYTHON`.

PYTHON is the interpreter of an environment with tests/bench/robust-requirements.txt; without it only RaySafe's side
runs. A small network of scikit-learn's digits, trained plainly and by PGD; the same weights, samples and budgets for
all. Targets: robust accuracy within 1 point of the lowest peer's for each attack, 0.5 for AutoAttack; Carlini-Wagner's
mean distance at most 1.02 times the best peer's at as many successes; passes (forward and backward) for a broken and
for an unbroken sample at most the best peer's; PGD's CPU at most 1.05 times a plain loop's. Passes include the
prediction of the sample before and of what was found after, on every side.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from raysafe.robustness.attacks.settings import (
    APGD,
    APGDT,
    FABT,
    FGSM,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    Square,
)
from tests.bench.attacks_network import network

EPSILON = 0.1
TRAINED, SAMPLES = 1400, 100
TARGET_ROBUST, TARGET_AUTOATTACK, TARGET_DISTANCE, TARGET_CPU = 0.01, 0.005, 1.02, 1.05
MODELS = ("plain", "pgd")


@dataclass(frozen=True)
class Contest:
    """One attack in one norm, and the peers that have it."""

    name: str
    attack: Attack
    norm: str
    epsilon: float
    peers: tuple[str, ...]
    budget: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = MODELS


def contests(steps: int = 40, auto_steps: int = 100, square_steps: int = 5000) -> list[Contest]:
    """The attacks compared; AutoAttack with its standard budget by default."""
    every = ("torchattacks", "foolbox", "art")
    carlini = {"searches": 6, "steps": 100, "initial_c": 0.1}
    short = {"steps": steps}
    auto = {"steps": auto_steps, "square_steps": square_steps}
    return [
        Contest("fgsm", FGSM(), "linf", EPSILON, every),
        Contest("pgd-linf", PGD(steps=steps), "linf", EPSILON, every, short),
        Contest("pgd-l2", PGD(steps=steps), "l2", 0.5, every, short),
        Contest("pgd-l1", PGD(steps=steps), "l1", 2.0, ("foolbox", "art"), short),
        Contest("carlini-wagner", CarliniWagner(**carlini), "l2", math.inf, ("foolbox", "art"), carlini),
        Contest("apgd", APGD(steps=auto_steps), "linf", EPSILON, ("pyautoattack",), {"steps": auto_steps}),
        Contest("autoattack", AutoAttack(steps=auto_steps, square_steps=square_steps), "linf", EPSILON,
                ("pyautoattack",), auto),
    ]  # fmt: skip


def parts(steps: int = 40, square_steps: int = 500) -> list[Contest]:
    """AutoAttack's other parts by themselves."""
    peer = ("pyautoattack",)
    return [
        Contest("apgd-t", APGDT(steps=steps), "linf", EPSILON, peer, {"steps": steps}),
        Contest("fab-t", FABT(steps=steps), "linf", EPSILON, peer, {"steps": steps}),
        Contest("square", Square(steps=square_steps), "linf", EPSILON, peer, {"square_steps": square_steps}),
    ]


def samples() -> tuple[Tensor, Tensor]:
    """Digits in a fixed random order: (1797, 1, 8, 8) in [0, 1], and labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x_BCHW = torch.from_numpy(data.images[order]).float()[:, None] / 16
    return x_BCHW, torch.from_numpy(data.target[order]).long()


def train(adversarial: bool, epochs: int) -> nn.Module:
    """Adam on cross-entropy; adversarially after Madry et al. 2018, three steps at EPSILON."""
    torch.manual_seed(0)
    model, (x, y) = network(), samples()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(TRAINED).split(64):
            points, labels = x[rows], y[rows]
            if adversarial:
                points = plain_pgd(model, points, labels, steps=3, step=0.5 * EPSILON)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(points), labels).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, steps: int, step: float) -> Tensor:
    """What one would write by hand in L-inf."""
    points = (x + EPSILON * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        points = points.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(points), y, reduction="sum"), points)
        points = torch.min(torch.max(points.detach() + step * gradient.sign(), x - EPSILON), x + EPSILON).clamp(0, 1)
    return points.detach()


def ours(contest: Contest, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    started = time.process_time()
    found = contest.attack(model, x, y, norm=contest.norm, epsilon=contest.epsilon)  # type: ignore[arg-type]
    cpu_s = time.process_time() - started
    right_B = model(x).argmax(1) == y
    apart_B = (found.adversarial - x).flatten(1).norm(dim=1)
    groups = {"broken": (found.success & right_B), "unbroken": ~found.success}
    return {
        "robust": 1 - float(found.success.float().mean()),
        "distance": float(apart_B[found.success & right_B].mean()) if (found.success & right_B).any() else None,
        "successes": int((found.success & right_B).sum()),
        "passes": {name: float(found.queries[rows].float().mean()) for name, rows in groups.items() if rows.any()},
        "cpu_s": cpu_s,
        "groups": {name: rows.nonzero().squeeze(1).tolist() for name, rows in groups.items() if rows.any()}
        | {"wrong": (~right_B).nonzero().squeeze(1).tolist()},
    }


def compare(chosen: list[Contest], peer: str | None, trained: dict[str, nn.Module], count: int) -> list[dict[str, Any]]:
    """A row for each contest and model: ours, and each peer's under `peers`."""
    x, y = (one[TRAINED : TRAINED + count] for one in samples())
    rows, tasks = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "samples.npz", x=x.numpy(), y=y.numpy())
        for kind, model in trained.items():
            torch.save(model.state_dict(), folder / f"{kind}.pt")
        for contest in chosen:
            for kind in contest.models:
                mine = ours(contest, trained[kind], x, y)
                groups = {one: places for one, places in mine.pop("groups").items() if places}
                rows.append({"attack": contest.name, "model": kind, "raysafe": mine, "peers": {}})
                tasks += [
                    (len(rows) - 1, {"peer": one, "name": contest.name, "model": kind, "norm": contest.norm,
                     "epsilon": contest.epsilon if math.isfinite(contest.epsilon) else None, "groups": groups,
                     **contest.budget})
                    for one in contest.peers
                ]  # fmt: skip
        if peer is not None:
            (folder / "tasks.json").write_text(json.dumps([task for _, task in tasks]), encoding="utf-8")
            script = str(Path(__file__).with_name("attacks_peer.py"))
            done = subprocess.run([peer, script, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
            found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"peer"')]
            for (place, task), one in zip(tasks, found, strict=True):
                rows[place]["peers"][task["peer"]] = one
    return rows


def judged(row: dict[str, Any]) -> dict[str, bool]:
    """Which targets a row reaches; without peers there are none."""
    mine, peers = row["raysafe"], row["peers"]
    if not peers:
        return {}
    allowed = TARGET_AUTOATTACK if row["attack"] == "autoattack" else TARGET_ROBUST
    reached = {"robust": mine["robust"] <= min(one["robust"] for one in peers.values()) + allowed + 1e-9}
    for group, passes in mine["passes"].items():
        # a peer that stops early or late is compared with what it costs where it finds as much
        equal = [one["passes"][group] for one in peers.values() if one["robust"] <= mine["robust"] + TARGET_ROBUST]
        if equal:
            reached[f"passes {group}"] = passes <= min(equal) + 1e-9
    if row["attack"] == "carlini-wagner":
        equal = [one["distance"] for one in peers.values() if one["successes"] >= mine["successes"]]
        most = max(one["successes"] for one in peers.values())
        reached["distance"] = mine["successes"] >= most and mine["distance"] <= TARGET_DISTANCE * min(equal, default=0)
    return reached


def against_plain_loop(model: nn.Module, repeats: int = 5) -> float:
    """CPU of PGD over that of a plain loop with the checks before and after, 1,000 images of which most hold."""
    x, y = (one[:1000] for one in samples())
    attack = PGD(steps=40)
    mine, plain = [], []
    for _ in range(repeats):
        started = time.process_time()
        attack(model, x, y, norm="linf", epsilon=EPSILON)
        mine.append(time.process_time() - started)
        started = time.process_time()
        with torch.no_grad():
            model(x).argmax(1)
        points = plain_pgd(model, x, y, steps=40, step=2.5 * EPSILON / 40)
        with torch.no_grad():
            model(points).argmax(1)
        plain.append(time.process_time() - started)
    return min(mine) / min(plain)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: robust accuracy, passes and distances of each side."""
    lines = [
        "| attack | model | by | robust | passes broken | unbroken | L2 distance |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for name, side in {"RaySafe": row["raysafe"], **row["peers"]}.items():
            passes = [side["passes"].get(group) for group in ("broken", "unbroken")]
            broken, unbroken = ("" if one is None else f"{one:,.0f}" for one in passes)
            far = f"{side['distance']:.4f}" if row["attack"] == "carlini-wagner" and side["distance"] else ""
            robust = f"{100 * side['robust']:.1f}%"
            lines.append(f"| {row['attack']} | {row['model']} | {name} | {robust} | {broken} | {unbroken} | {far} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment with tests/bench/robust-requirements.txt")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="test digits that are attacked")
    parser.add_argument("--only", help="names of contests, separated by commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trained = {"plain": train(False, 10), "pgd": train(True, 20)}
    chosen = [one for one in contests() + parts() if given.only is None or one.name in given.only.split(",")]
    rows = compare(chosen, given.peer, trained, given.samples)
    print(table(rows))
    for row in rows:
        for what, reached in judged(row).items():
            print(f"{row['attack']} on {row['model']}: {what} {'reached' if reached else 'MISSED'}")
    ratio = against_plain_loop(trained["pgd"])
    word = "reached" if ratio <= TARGET_CPU else "MISSED"
    print(f"PGD at {ratio:.2f} times the CPU of a plain loop (target {TARGET_CPU:.2f}): {word}")


if __name__ == "__main__":
    main()
