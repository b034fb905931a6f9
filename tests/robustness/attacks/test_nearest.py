"""Attacks that look for the nearest adversarial point, against distances that are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from raysafe.robustness.attacks.balls import Box, Norm
from raysafe.robustness.attacks.hyperplane import step_onto
from raysafe.robustness.attacks.settings import FABT, CarliniWagner

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def oracle(weight_D: Tensor, gap: float, room_D: Tensor, norm: Norm) -> float:
    """The least norm of a step within its room with weight · step = gap: linear programmes, and SLSQP for L2."""
    pull = weight_D.abs().double().numpy()
    room = room_D.double().numpy()
    size = len(pull)
    if norm == "l1":
        found = linprog([1.0] * size, A_eq=[pull], b_eq=[gap], bounds=[(0, one) for one in room])
        return float(found.fun)
    if norm == "linf":
        rows = [[1.0 * (column == row) for column in range(size)] + [-1.0] for row in range(size)]
        bounds = [(0, one) for one in room] + [(0, None)]
        found = linprog([0.0] * size + [1.0], rows, [0.0] * size, [[*pull, 0.0]], [gap], bounds)
        return float(found.fun)
    start = room * gap / (pull @ room)
    best = minimize(
        lambda step: step @ step,
        start,
        jac=lambda step: 2 * step,
        bounds=[(0, one) for one in room],
        constraints={"type": "eq", "fun": lambda step: pull @ step - gap, "jac": lambda step: pull},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return math.sqrt(best.fun)


@pytest.mark.parametrize("norm", NORMS)
def test_the_step_onto_a_hyperplane_is_the_least(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 8, generator=generator)
    room = torch.rand(12, 8, generator=generator) * (torch.rand(12, 8, generator=generator) > 0.2)
    share = torch.rand(12, generator=generator) * 0.98
    gap = share * (weight.abs() * room).sum(1) * torch.where(torch.arange(12) % 2 == 0, 1.0, -1.0)
    step = step_onto(weight, gap, room, norm)
    assert torch.allclose((weight * step).sum(1), gap, atol=1e-5)
    assert (step.abs() <= room + 1e-6).all()
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    for row in range(12):
        assert float(step[row].norm(p=order)) == pytest.approx(
            oracle(weight[row], float(gap[row].abs()), room[row], norm), abs=2e-4
        )


def test_out_of_reach_the_step_goes_to_the_corner() -> None:
    room = torch.tensor([[0.2, 0.5, 0.0]])
    for norm in NORMS:
        step = step_onto(torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([9.0]), room, norm)
        assert torch.allclose(step, torch.tensor([[0.2, -0.5, 0.0]]))


def affine(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear network of four classes, samples well inside the box, and their predictions."""
    torch.manual_seed(seed)
    model = nn.Linear(10, 4)
    x = 0.4 + 0.2 * torch.rand(20, 10)
    return model, x, model(x).argmax(1)


def nearest(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """The distance to the nearest other class: the least over classes of what the hyperplane needs within the box."""
    found = []
    for row in range(len(x)):
        best = math.inf
        for other in range(4):
            weight = (model.weight[other] - model.weight[y[row]]).detach()  # type: ignore[index]
            gap = float((model(x[row])[y[row]] - model(x[row])[other]).detach())
            room = Box().room(x[row], weight)
            if other != int(y[row]) and gap < float((weight.abs() * room).sum()):
                best = min(best, oracle(weight, gap, room, norm))
        found.append(best)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_fab_finds_the_nearest_point_of_a_linear_network(norm: Norm) -> None:
    model, x, y = affine(1)
    found = FABT(steps=20, targets=3)(model, x, y, norm=norm, epsilon=math.inf)
    exact = nearest(model, x, y, norm)
    assert torch.equal(found.success, torch.isfinite(exact))
    ratio = (found.distance / exact)[found.success]
    assert float(ratio.min()) > 0.999 and float(ratio.max()) < 1.02


def test_carlini_wagner_finds_the_nearest_point_of_a_linear_network() -> None:
    model, x, y = affine(2)
    found = CarliniWagner(steps=300, searches=9, initial_c=0.1)(model, x, y, norm="l2", epsilon=math.inf)
    exact = nearest(model, x, y, "l2")
    assert torch.equal(found.success, torch.isfinite(exact))
    ratio = (found.distance / exact)[found.success]
    assert float(ratio.min()) > 0.999 and float(ratio.mean()) < 1.02


def test_an_epsilon_below_the_nearest_distance_is_no_success() -> None:
    model, x, y = affine(3)
    exact = nearest(model, x, y, "l2")
    for row in range(4):
        for attack in (FABT(steps=15, targets=3), CarliniWagner(steps=150, initial_c=1.0)):
            one = attack(model, x[row : row + 1], y[row : row + 1], norm="l2", epsilon=0.99 * float(exact[row]))
            assert not one.success.any() and torch.equal(one.adversarial, x[row : row + 1])
