"""Elastic weight consolidation (Kirkpatrick et al. 2017): what a task needs of the weights, and staying near them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

CHUNK = 64


@dataclass(frozen=True)
class Importance:
    """The weights after a task, and each weight's Fisher information on it; of every trained parameter, by name."""

    weights: dict[str, Tensor]
    fisher: dict[str, Tensor]


def diagonal_fisher(
    network: nn.Module,
    x: Tensor,
    classes: Sequence[int],
    *,
    chunk: int = CHUNK,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Tensor]:
    """E_x sum_k p(k | x) (d log p(k | x) / d weight)^2, of every trainable parameter, over inputs x (N, …).

    The expectation over labels is the model's own, summed exactly over `classes`, the outputs that compete; with the
    data's labels it would be the empirical Fisher, which isn't the curvature (Kunstner et al. 2019). In eval mode; the
    mode found is restored.
    """
    parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    chosen = torch.as_tensor(list(classes), device=x.device)

    def log_probability(values: Mapping[str, Tensor], one: Tensor, label_K: Tensor) -> Tensor:
        logits_K = functional_call(network, dict(values), (one[None],))[0, chosen]
        return logits_K.log_softmax(dim=0) @ label_K

    gradients = vmap(vmap(grad(log_probability), in_dims=(None, None, 0)), in_dims=(None, 0, None))
    labels_KK = torch.eye(len(chosen), dtype=next(iter(parameters.values())).dtype, device=x.device)
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    training = network.training
    network.eval()
    try:
        for start in range(0, len(x), chunk):
            some = x[start : start + chunk]
            with torch.no_grad():
                chances_BK = network(some)[:, chosen].softmax(dim=1)
            for name, gradient in gradients(parameters, some, labels_KK).items():
                sums[name] += torch.einsum("bk,bk...->...", chances_BK, gradient.square())
            progress(len(some))
    finally:
        network.train(training)
    return {name: total / len(x) for name, total in sums.items()}


def ewc_penalty(parameters: Mapping[str, Tensor], tasks: Sequence[Importance]) -> Tensor:
    """1/2 sum over tasks and weights of F (weight - weight after the task)^2: equation 3, for lambda 1."""
    terms = [
        (fisher * (parameters[name] - task.weights[name]).square()).sum()
        for task in tasks
        for name, fisher in task.fisher.items()
    ]
    return torch.stack(terms).sum() / 2
