"""Training towards equal rates: a penalty on differences between groups' probabilities, or a constraint on decisions.

A cell is a group under a condition: demographic parity has one condition, equal opportunity looks at the qualified
alone, equalised odds compares groups among the qualified and among the unqualified. Differences are between any two
cells of one condition.

The constraint is a game of two players (Cotter, Jiang and Sridharan 2019, the proxy-Lagrangian): the network descends
on its probabilities' differences, weighted by multipliers, and the multipliers ascend by how far the differences of
its decisions, a running average over batches, exceed the tolerance.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from raysafe.generalization.settings import Criterion, FairTraining

CRITERIA: dict[Criterion, tuple[bool | None, ...]] = {
    "demographic-parity": (None,),
    "equal-opportunity": (True,),
    "equalised-odds": (True, False),
}
"""Conditions of each: whom groups are compared among, the qualified, the unqualified, or everybody."""


def cells_of(criterion: Criterion, groups_B: Tensor, qualified_B: Tensor, groups: int) -> Tensor:
    """(B,): number of each row's cell, condition by condition; -1 where the criterion doesn't look at the row."""
    cells_B = torch.full_like(groups_B, -1)
    for number, condition in enumerate(CRITERIA[criterion]):
        looked_at_B = torch.ones_like(qualified_B) if condition is None else qualified_B == condition
        cells_B = torch.where(looked_at_B, number * groups + groups_B, cells_B)
    return cells_B


def pairs_of(criterion: Criterion, groups: int) -> Tensor:
    """(P, 2): cells to compare."""
    pairs = [
        (number * groups + a, number * groups + b)
        for number in range(len(CRITERIA[criterion]))
        for a, b in combinations(range(groups), 2)
    ]
    return torch.tensor(pairs)


def cell_means(values_B: Tensor, cells_B: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Mean of each cell, 0 where it is empty, and its count; both (C,), differentiable in the values."""
    member_BC = torch.nn.functional.one_hot(cells_B + 1, cells + 1)[:, 1:].to(values_B)
    counts_C = member_BC.sum(dim=0)
    return (values_B @ member_BC) / counts_C.clamp_min(1.0), counts_C


def difference_penalty(probabilities_B: Tensor, cells_B: Tensor, pairs_P2: Tensor) -> Tensor:
    """Mean over pairs of an unbiased estimate of the squared difference of their mean probabilities.

    The square of a batch's difference exceeds the true square by s_a^2 / n_a + s_b^2 / n_b, which would be paid for by
    making everyone's probability alike; it is taken off. Pairs with fewer than two rows on a side don't count.
    """
    cells = int(pairs_P2.max()) + 1
    means_C, counts_C = cell_means(probabilities_B, cells_B, cells)
    deviations_B = probabilities_B - means_C[cells_B.clamp_min(0)]
    squares_C, _ = cell_means(deviations_B.square(), cells_B, cells)
    # s^2 / n = (n / (n - 1)) mean squared deviation / n
    noise_C = squares_C / (counts_C - 1).clamp_min(1.0)
    first_P, second_P = pairs_P2.unbind(dim=1)
    known_P = (counts_C[first_P] >= 2) & (counts_C[second_P] >= 2)
    excess_P = (means_C[first_P] - means_C[second_P]).square() - noise_C[first_P] - noise_C[second_P]
    return (excess_P * known_P).sum() / known_P.sum().clamp_min(1)


def differences(values_B: Tensor, cells_B: Tensor, pairs_P2: Tensor) -> Tensor:
    """(P,): first minus second cell's mean; 0 where either is empty, as nothing is known then."""
    means_C, counts_C = cell_means(values_B, cells_B, int(pairs_P2.max()) + 1)
    first_P, second_P = pairs_P2.unbind(dim=1)
    known_P = (counts_C[first_P] > 0) & (counts_C[second_P] > 0)
    return (means_C[first_P] - means_C[second_P]) * known_P


def no_multipliers(criterion: Criterion, groups: int) -> Tensor:
    """(2, P) of zeros: of `difference <= tolerance` and of `-difference <= tolerance`."""
    return torch.zeros(2, len(pairs_of(criterion, groups)))


@torch.no_grad()
def ascend(
    multipliers_2P: Tensor, average_P: Tensor, differences_P: Tensor, fair: FairTraining, share: float = 1.0
) -> Tensor:
    """One step of the running average and of the multipliers, in place; returns what weighs the differences, (2, P).

    That is the multiplier and, while there is excess, `damping` times it (the gradient of an augmented Lagrangian,
    Hestenes 1969), without which multipliers run on while the network follows, and swing. share: of the optimiser
    step's rows that the differences are of.
    """
    assert fair.tolerance is not None
    average_P.lerp_(differences_P, (1 - fair.memory) * share)
    excess_2P = torch.stack([average_P, -average_P]) - fair.tolerance
    multipliers_2P.add_(excess_2P, alpha=fair.ascent_rate * share).clamp_(0.0, fair.most)
    return (multipliers_2P + fair.damping * excess_2P.clamp_min(0.0)).clamp_max(fair.most)


def lagrangian(weights_2P: Tensor, differences_P: Tensor) -> Tensor:
    """What the network descends on: sum of (weight of <=, less that of >=) times difference in probability.

    It is linear in the differences, so that a batch's gradient has no bias.
    """
    return ((weights_2P[0] - weights_2P[1]) * differences_P).sum()


def violation(differences_P: Tensor, tolerance: float) -> Tensor:
    """How far the widest difference exceeds the tolerance."""
    return (differences_P.abs().max() - tolerance).clamp_min(0.0)
