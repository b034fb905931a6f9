"""Small networks of every operator that has a bound, with random weights, and a hunt for a broken certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig
from raysafe.models.vision import Normalise, Residual
from raysafe.robustness.attacks.settings import PGD
from raysafe.robustness.certify.certificate import Method, certify

IMAGE, CLASSES = (2, 6, 6), 4
EPSILONS = (0.002, 0.01, 0.03, 0.08, 0.2)
METHODS: tuple[Method, ...] = ("ibp", "crown-ibp", "crown", "lipschitz")


class Functional(nn.Module):
    """Calls functions and methods rather than modules, and adds, scales, clamps and averages."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, CLASSES)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(2 * x - 0.5)) * self.scale
        hidden = hidden - nn.functional.leaky_relu(-hidden / 2, 0.2).clamp(-0.3, 0.8)
        pooled = nn.functional.max_pool2d(hidden, 3, 2, 1).mean((2, 3))
        return self.second(pooled.view(x.size(0), -1))


def convolutional(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(
        Normalise((0.5, 0.4), (0.5, 0.25)), nn.Conv2d(2, 4, 3, padding=1), *middle, nn.LazyLinear(CLASSES)
    )


def vectors(activation: str) -> nn.Module:
    shape = {"inputs": 6, "hidden": (8, 8), "activation": activation, "normalise": True, "clip": 3.0}
    return Mlp(MlpConfig(**shape, head=ClassifierHead(labels=tuple("abcd"))))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "pooled": lambda: convolutional(
        nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2, 1, groups=2), nn.LeakyReLU(), nn.Flatten()
    ),
    "residual": lambda: convolutional(
        nn.ReLU(inplace=True),
        Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding="same"), nn.GELU(), nn.Conv2d(4, 4, 1), nn.Dropout2d())),
        nn.AvgPool2d(3, 2, 1),
        nn.Flatten(),
    ),
    "adaptive": lambda: convolutional(
        nn.Sigmoid(), nn.AdaptiveMaxPool2d(3), nn.Conv2d(4, 3, 2, dilation=2), nn.Tanh(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Identity(), nn.Dropout(),
    ),
    "clipped": lambda: convolutional(
        nn.MaxPool2d(3, 1, 1), nn.ReLU6(), nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.Hardtanh()
    ),
    "functional": Functional,
    "gelu-tanh": lambda: convolutional(nn.GELU("tanh"), nn.Flatten(), nn.Linear(144, 8), nn.SiLU()),
    **{f"mlp-{name}": (lambda name=name: vectors(name)) for name in ("relu", "tanh", "silu", "gelu", "elu")},
}  # fmt: skip


def network(name: str, seed: int) -> nn.Module:
    """With weights large enough for the activations to bend, and running statistics that aren't 0 and 1."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    model(inputs(name, 2))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(1.5)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


def inputs(name: str, count: int) -> Tensor:
    return torch.rand(count, 6) if name.startswith("mlp") else torch.rand(count, *IMAGE)


def hunt(name: str, seed: int, count: int, epsilons: Sequence[float] = EPSILONS) -> tuple[int, int, list[str]]:
    """Of `count` pairs of a point and an epsilon: how many have a certificate and how many break, and what is wrong.

    By PGD and 32 corners in L-inf, and PGD in L2; lower bounds are checked against the margins found.
    """
    model = network(name, seed)
    certified, broken, wrong = 0, 0, []
    for epsilon in epsilons:
        x = inputs(name, count // len(epsilons))
        y_B = model(x).argmax(1)
        bounds = {method: certify(model, x, y_B, epsilon, method) for method in METHODS}
        certified += int(torch.stack([bound.certified for bound in bounds.values()]).any(0).sum())
        for norm, methods in (("linf", METHODS[:3]), ("l2", METHODS[3:])):
            attack = PGD(steps=8, restarts=1, seed=seed % 1000)
            points = [attack(model, x, y_B, norm=norm, epsilon=epsilon).adversarial]  # type: ignore[arg-type]
            if norm == "linf":
                signs = torch.randint(0, 2, (32, *x.shape)) * 2.0 - 1
                points += list((x + epsilon * signs).clamp(0, 1))
            with torch.no_grad():
                logits_PBK = model(torch.cat(points)).view(len(points), len(x), CLASSES)
            margins_BK = (logits_PBK.gather(2, y_B.view(1, -1, 1).expand(len(points), -1, 1)) - logits_PBK).amin(0)
            flipped_B = (logits_PBK.argmax(2) != y_B).any(0)
            broken += int(flipped_B.sum())
            for method in methods:
                if (flipped_B & bounds[method].certified).any():
                    wrong.append(f"{name} {seed}: {method}'s certificate at {epsilon:g} is broken")
                if not (margins_BK >= bounds[method].lower_bounds).all():
                    wrong.append(f"{name} {seed}: {method}'s margin at {epsilon:g} is undercut")
        if not (bounds["crown"].lower_bounds >= bounds["ibp"].lower_bounds).all():
            wrong.append(f"{name} {seed}: CROWN is looser than IBP at {epsilon:g}")
    return certified, broken, wrong
