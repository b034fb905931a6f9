"""The penalty's estimate and gradient, and the game that a constraint is trained by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from raysafe.errors import ConfigError
from raysafe.generalization.fairness_penalty import (
    ascend,
    cells_of,
    difference_penalty,
    differences,
    lagrangian,
    no_multipliers,
    pairs_of,
    violation,
)
from raysafe.generalization.settings import FairTraining

GROUPS = torch.tensor([0, 0, 1, 1, 1])
QUALIFIED = torch.tensor([True, False, True, True, False])


def test_cells_by_hand() -> None:
    assert cells_of("demographic-parity", GROUPS, QUALIFIED, 2).tolist() == [0, 0, 1, 1, 1]
    assert cells_of("equal-opportunity", GROUPS, QUALIFIED, 2).tolist() == [0, -1, 1, 1, -1]
    assert cells_of("equalised-odds", GROUPS, QUALIFIED, 2).tolist() == [0, 2, 1, 1, 3]
    assert pairs_of("equalised-odds", 2).tolist() == [[0, 1], [2, 3]]
    assert pairs_of("demographic-parity", 3).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_differences_by_hand() -> None:
    values = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    cells = cells_of("equalised-odds", GROUPS, QUALIFIED, 2)
    assert differences(values, cells, pairs_of("equalised-odds", 2)).tolist() == [0.5, -1.0]
    assert float(violation(torch.tensor([0.1, -0.3]), 0.05)) == pytest.approx(0.25)


def test_an_empty_cell_says_nothing() -> None:
    values = torch.tensor([1.0, 0.0], requires_grad=True)
    cells = torch.tensor([0, 0])
    assert differences(values, cells, torch.tensor([[0, 1]])).tolist() == [0.0]
    penalty = difference_penalty(values, cells, torch.tensor([[0, 1]]))
    penalty.backward()
    assert penalty.item() == 0 and values.grad is not None and values.grad.tolist() == [0.0, 0.0]


def test_the_penalty_is_an_unbiased_estimate_of_the_squared_difference() -> None:
    """Batches of 16 from two groups whose mean probabilities differ by 0.1: plain squares would average 0.02."""
    rng = np.random.default_rng(0)
    cells, pairs = torch.tensor([0] * 10 + [1] * 6), torch.tensor([[0, 1]])
    found, plain = [], []
    for _ in range(1500):
        values = torch.tensor(np.append(rng.beta(3, 2, 10), rng.beta(2, 2, 6)))
        found.append(float(difference_penalty(values, cells, pairs)))
        plain.append(float(differences(values, cells, pairs)[0]) ** 2)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 0.01) < 4 * error
    assert np.mean(plain) > 0.01 + 5 * error


def test_the_penalty_has_the_gradient_of_finite_differences() -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    cells = torch.tensor([0, 1, 2, -1] * 3)
    pairs = pairs_of("demographic-parity", 3)

    def penalty(values: Tensor) -> Tensor:
        return difference_penalty(values.sigmoid(), cells, pairs)

    assert torch.autograd.gradcheck(penalty, (logits,))
    multipliers = torch.tensor([[0.5, 0.0, 2.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v: lagrangian(multipliers, differences(v.sigmoid(), cells, pairs)), (logits,)
    )


def test_multipliers_ascend_by_the_excess_and_stay_within_bounds() -> None:
    fair = FairTraining(tolerance=0.1, ascent_rate=1.0, most=0.5, damping=1.0, memory=0.0)
    multipliers, average = no_multipliers("demographic-parity", 2), torch.zeros(1)
    weights = ascend(multipliers, average, torch.tensor([0.3]), fair)
    assert multipliers[:, 0].tolist() == pytest.approx([0.2, 0.0]) and float(average) == pytest.approx(0.3)
    assert weights[:, 0].tolist() == pytest.approx([0.4, 0.0])
    weights = ascend(multipliers, average, torch.tensor([0.9]), fair)
    assert multipliers[:, 0].tolist() == weights[:, 0].tolist() == pytest.approx([0.5, 0.0])
    ascend(multipliers, average, torch.tensor([-0.4]), fair)
    assert multipliers[:, 0].tolist() == pytest.approx([0.0, 0.3])


def test_the_average_forgets() -> None:
    multipliers, average = no_multipliers("demographic-parity", 2), torch.zeros(1)
    for difference in (0.4, 0.0):
        ascend(multipliers, average, torch.tensor([difference]), FairTraining(tolerance=0.1, memory=0.75))
    assert float(average) == pytest.approx(0.4 * 0.25 * 0.75)


def test_penalty_and_tolerance_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="set one of them"):
        FairTraining(penalty=1.0, tolerance=0.1)


@pytest.mark.parametrize("tolerance", [0.05, 0.15])
def test_the_game_ends_at_the_tolerance_where_an_unconstrained_fit_does_not(tolerance: float) -> None:
    """A logistic model of one feature that says much of the group: unconstrained, the decisions differ by 0.35."""
    rng = np.random.default_rng(0)
    groups = torch.tensor(rng.integers(0, 2, 1500))
    qualified = torch.tensor(rng.random(1500) < np.where(groups.numpy() == 1, 0.7, 0.3))
    x = torch.tensor(np.stack([groups.numpy(), qualified.numpy()], 1) + 0.7 * rng.standard_normal((1500, 2)))
    pairs, cells = pairs_of("demographic-parity", 2), cells_of("demographic-parity", groups, qualified, 2)

    def widest(fair: FairTraining | None) -> float:
        weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.03)
        multipliers, average = no_multipliers("demographic-parity", 2).double(), torch.zeros(1).double()
        gaps = []
        for _ in range(300):
            logits = x @ weights[:2] + weights[2]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, qualified.double())
            gap = differences((logits > 0).double(), cells, pairs)
            gaps.append(float(gap.abs().max()))
            if fair:
                weights_2P = ascend(multipliers, average, gap, fair)
                loss = loss + lagrangian(weights_2P, differences(logits.sigmoid(), cells, pairs))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(np.mean(gaps[-100:]))

    assert widest(None) > 0.3
    assert widest(FairTraining(tolerance=tolerance)) == pytest.approx(tolerance, abs=0.03)
