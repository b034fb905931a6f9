"""One peer's attack on a network, as JSON: run by attacks.py in an environment with robust-requirements.txt.

python attacks_peer.py FOLDER reads FOLDER/tasks.json, the models and samples beside it, and prints a line for each
task as it is done: robust accuracy, mean L2 distance of successes, passes per sample, CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attacks_network import CLASSES, Counted, load
from torch import Tensor, nn

Attack = Callable[[nn.Module, Tensor, Tensor, dict[str, Any]], Tensor]


def torchattacks_(name: str) -> Attack:
    def run(model: nn.Module, x: Tensor, y: Tensor, task: dict[str, Any]) -> Tensor:
        import torchattacks

        epsilon, steps = task["epsilon"], task.get("steps", 1)
        step = 2.5 * epsilon / steps
        attack = {
            "fgsm": lambda: torchattacks.FGSM(model, eps=epsilon),
            "pgd-linf": lambda: torchattacks.PGD(model, eps=epsilon, alpha=step, steps=steps),
            "pgd-l2": lambda: torchattacks.PGDL2(model, eps=epsilon, alpha=step, steps=steps),
            "apgd-linf": lambda: torchattacks.APGD(model, norm="Linf", eps=epsilon, steps=steps, seed=0),
        }[name]()
        return attack(x, y)

    return run


def foolbox_(name: str) -> Attack:
    def run(model: nn.Module, x: Tensor, y: Tensor, task: dict[str, Any]) -> Tensor:
        import foolbox

        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        steps = task.get("steps", 1)
        attack = {
            "fgsm": lambda: foolbox.attacks.LinfFastGradientAttack(random_start=False),
            "pgd-linf": lambda: foolbox.attacks.LinfPGD(rel_stepsize=2.5 / steps, steps=steps),
            "pgd-l2": lambda: foolbox.attacks.L2PGD(rel_stepsize=2.5 / steps, steps=steps),
            "pgd-l1": lambda: foolbox.attacks.SparseL1DescentAttack(rel_stepsize=2.5 / steps, steps=steps),
            "carlini-wagner": lambda: foolbox.attacks.L2CarliniWagnerAttack(
                binary_search_steps=task.get("searches", 1), steps=steps, initial_const=task.get("initial_c", 1e-3)
            ),
        }[name]()
        epsilon = None if name == "carlini-wagner" else task["epsilon"]
        _, clipped, _ = attack(wrapped, x, y, epsilons=epsilon)
        return clipped

    return run


def art_(name: str) -> Attack:
    def run(model: nn.Module, x: Tensor, y: Tensor, task: dict[str, Any]) -> Tensor:
        from art.attacks.evasion import CarliniL2Method, FastGradientMethod, ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=CLASSES,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        steps, epsilon = task.get("steps", 1), task["epsilon"]
        norm = {"pgd-linf": np.inf, "pgd-l2": 2, "pgd-l1": 1}.get(name, np.inf)
        attack = {
            "fgsm": lambda: FastGradientMethod(classifier, norm=np.inf, eps=epsilon, batch_size=len(x)),
            "carlini-wagner": lambda: CarliniL2Method(
                classifier,
                binary_search_steps=task.get("searches", 1),
                max_iter=steps,
                initial_const=task.get("initial_c", 1e-3),
                batch_size=len(x),
                verbose=False,
            ),
        }.get(
            name,
            lambda: ProjectedGradientDescentPyTorch(
                classifier,
                norm=norm,
                eps=epsilon,
                eps_step=2.5 * epsilon / steps,
                max_iter=steps,
                num_random_init=1,
                batch_size=len(x),
                verbose=False,
            ),
        )()
        return torch.from_numpy(attack.generate(x.numpy(), nn.functional.one_hot(y, CLASSES).float().numpy()))

    return run


def pyautoattack_(name: str) -> Attack:
    def run(model: nn.Module, x: Tensor, y: Tensor, task: dict[str, Any]) -> Tensor:
        from pyautoattack import AutoAttack

        norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[task["norm"]]
        part = {"apgd": "apgd-ce", "apgd-t": "apgd-t", "fab-t": "fab-t", "square": "square"}.get(name)
        if part is None:
            attack = AutoAttack(model, norm=norm, eps=task["epsilon"], seed=0)
        else:
            attack = AutoAttack(model, norm=norm, eps=task["epsilon"], seed=0, version="custom", attacks=[part])
            attack.apgd.n_restarts = attack.fab.n_restarts = 1
        steps = task.get("steps", 100)
        attack.apgd.n_iter = attack.apgd_targeted.n_iter = attack.fab.n_iter = steps
        attack.square.n_queries = task.get("square_steps", 5000)
        attack.verbose = False
        found = attack.run_standard_evaluation(x, y, batch_size=len(x))
        return found[0] if isinstance(found, tuple) else found

    return run


PEERS: dict[str, Callable[[str], Attack]] = {
    "torchattacks": torchattacks_,
    "foolbox": foolbox_,
    "art": art_,
    "pyautoattack": pyautoattack_,
}


def measure(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The clean prediction, the attack, and the prediction of what it gave, on each group of samples."""
    torch.manual_seed(0)
    np.random.seed(0)
    samples = np.load(folder / "samples.npz")
    x, y = torch.from_numpy(samples["x"]), torch.from_numpy(samples["y"])
    model = Counted(load(folder / f"{task['model']}.pt")).eval()
    attack = PEERS[task["peer"]](task["name"])
    passes, distances, broken, cpu_s = {}, [], 0, 0.0
    for group, rows in task["groups"].items():
        model.count = 0
        started = time.process_time()
        with torch.no_grad():
            clean = model(x[rows]).argmax(1)
        found = attack(model, x[rows], y[rows], task)
        with torch.no_grad():
            predicted = model(found).argmax(1)
        cpu_s += time.process_time() - started
        right = clean == y[rows]
        success = (predicted != y[rows]) | ~right
        broken += int(success.sum())
        passes[group] = model.count / max(1, len(rows))
        apart = (found - x[rows]).flatten(1).norm(dim=1)
        distances += apart[success & right].tolist()
    total = sum(len(rows) for rows in task["groups"].values())
    return {
        "robust": 1 - broken / total,
        "distance": float(np.mean(distances)) if distances else None,
        "successes": len(distances),
        "passes": passes,
        "cpu_s": cpu_s,
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        print(json.dumps({"peer": task["peer"], "name": task["name"], **measure(task, folder)}), flush=True)


if __name__ == "__main__":
    main()
