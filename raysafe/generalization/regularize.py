"""Penalties on a network's weights and on its Jacobian, each a differentiable function.

Weights are those of linear and convolutional layers, a convolution as a matrix (outputs, inputs x kernel); biases and
normalisation aren't penalised. Elastic net (Zou and Hastie 2005) is `l1` with `l2`, sparse group lasso `l1` with
`group_lasso`. What must become exactly zero is shrunk by proximal steps (proximal.py), no part of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from raysafe.generalization.settings import Grouping, Regularisation

POWER_ITERATIONS = 30


def weights_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of each linear and convolutional layer, in the module's order."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            yield f"{name}.weight" if name else "weight", part.weight


def penalised(module: nn.Module, regularisation: Regularisation) -> list[tuple[str, Tensor]]:
    """The weights that l1 and group_lasso shrink."""
    weights = list(weights_of(module))
    return weights[:1] if regularisation.first_layer else weights


def grouped(weight: Tensor, grouping: Grouping) -> Tensor:
    """(G, D): a view with one row a group. weight: (outputs, inputs, ...kernel)."""
    return (weight.transpose(0, 1) if grouping == "inputs" else weight).flatten(1)


def l1(weight: Tensor) -> Tensor:
    """Sum of absolute values."""
    return weight.abs().sum()


def l2(weight: Tensor) -> Tensor:
    """Half the sum of squares."""
    return 0.5 * weight.square().sum()


def group_lasso(weight_GD: Tensor) -> Tensor:
    """Sum over groups of sqrt(size) times the norm (Yuan and Lin 2006, eq. 2.1)."""
    # the norm's own gradient at zero is nan where a square root is taken by hand
    return math.sqrt(weight_GD.shape[1]) * torch.linalg.vector_norm(weight_GD, dim=1).sum()


def spectral_norm(weight: Tensor, iterations: int = POWER_ITERATIONS) -> Tensor:
    """The largest singular value of (outputs, the rest) by power iteration, from below; differentiable."""
    matrix_OI = weight.flatten(1)
    with torch.no_grad():
        start = torch.Generator().manual_seed(0)
        right_I = torch.randn(matrix_OI.shape[1], generator=start, dtype=torch.float32).to(matrix_OI)
        for _ in range(iterations):
            left_O = nn.functional.normalize(matrix_OI @ right_I, dim=0)
            right_I = nn.functional.normalize(matrix_OI.T @ left_O, dim=0)
        left_O = nn.functional.normalize(matrix_OI @ right_I, dim=0)
    return left_O @ matrix_OI @ right_I


def spectral(weight: Tensor) -> Tensor:
    """Half the squared spectral norm (Yoshida and Miyato 2017, eq. 4)."""
    return 0.5 * spectral_norm(weight).square()


def jacobian_norms(logits_BK: Tensor, inputs: Tensor, projections: int, generator: torch.Generator | None) -> Tensor:
    """(B,): an unbiased estimate of each row's squared Frobenius norm of d logits / d inputs, to be differentiated.

    K / projections times the sum over random unit vectors v of |d (v logits) / d inputs|^2 (Hoffman et al. 2019,
    eq. 8). inputs: (B, ...), which requires a gradient and from which the logits were computed row by row.
    """
    total_B = logits_BK.new_zeros(len(logits_BK))
    for _ in range(projections):
        drawn_BK = torch.randn(logits_BK.shape, generator=generator, dtype=torch.float32).to(logits_BK)
        direction_BK = nn.functional.normalize(drawn_BK, dim=1)
        (slope,) = torch.autograd.grad((direction_BK * logits_BK).sum(), inputs, create_graph=True)
        total_B = total_B + slope.flatten(1).square().sum(dim=1)
    return total_B * (logits_BK.shape[1] / projections)


def weight_penalty(module: nn.Module, regularisation: Regularisation) -> Tensor:
    """What the loss, as a mean over rows, gains by its weights; what proximal steps shrink isn't counted."""
    first = next(module.parameters())
    total = first.new_zeros(())
    terms: list[tuple[float, Callable[[Tensor], Tensor]]] = [
        (regularisation.l2, l2),
        (regularisation.spectral, spectral),
    ]
    for strength, penalty in terms:
        if strength:
            total = total + strength * sum(penalty(weight) for _, weight in weights_of(module))
    return total if regularisation.shrinks else total + shrinkage(module, regularisation)


def shrinkage(module: nn.Module, regularisation: Regularisation) -> Tensor:
    """l1's and group_lasso's part of the objective, whether proximal steps or the loss see to it."""
    total = next(module.parameters()).new_zeros(())
    for _, weight in penalised(module, regularisation):
        if regularisation.l1:
            total = total + regularisation.l1 * l1(weight)
        if regularisation.group_lasso:
            total = total + regularisation.group_lasso * group_lasso(grouped(weight, regularisation.grouping))
    return total
