"""Penalties against worked values, finite differences, SVD and scikit-learn's optima."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, Lasso
from torch import Tensor, nn

from raysafe.generalization.proximal import proximal, shrink, soft_threshold
from raysafe.generalization.regularize import (
    group_lasso,
    grouped,
    jacobian_norms,
    l1,
    l2,
    shrinkage,
    spectral,
    spectral_norm,
    weight_penalty,
)
from raysafe.generalization.settings import Regularisation
from raysafe.generalization.sparsity import sparsity


def planted(rows: int = 100, features: int = 20, seed: int = 0) -> tuple[Tensor, Tensor, np.ndarray]:
    """x, y of a linear law with 4 features that count."""
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((rows, features))
    weights_D = np.zeros(features)
    weights_D[[1, 4, 9, 16]] = [1.0, -0.8, 0.6, 1.5]
    y_N = x_ND @ weights_D + 0.1 * rng.standard_normal(rows)
    return torch.tensor(x_ND), torch.tensor(y_N), weights_D


def least_squares(x_ND: Tensor, y_N: Tensor, regularisation: Regularisation, steps: int = 500) -> nn.Linear:
    """Adam with proximal steps on half the mean squared error, the learning rate falling to nothing."""
    torch.manual_seed(0)
    module = nn.Linear(x_ND.shape[1], 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        rate = 0.05 * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = 0.5 * (module(x_ND)[:, 0] - y_N).square().mean() + weight_penalty(module, regularisation)
        loss.backward()
        optimizer.step()
        if regularisation.shrinks:
            shrink(module, optimizer, regularisation, rate)
    return module


def objective(weights_D: np.ndarray, x_ND: Tensor, y_N: Tensor, l1: float, l2: float) -> float:
    errors_N = x_ND.numpy() @ weights_D - y_N.numpy()
    return float(0.5 * (errors_N**2).mean() + l1 * np.abs(weights_D).sum() + 0.5 * l2 * (weights_D**2).sum())


@pytest.mark.parametrize("strengths", [(0.1, 0.0), (0.05, 0.3)])
def test_proximal_steps_end_in_the_optimum_that_scikit_learn_finds(strengths: tuple[float, float]) -> None:
    x_ND, y_N, _ = planted()
    first, second = strengths
    ours = least_squares(x_ND, y_N, Regularisation(l1=first, l2=second)).weight.detach().numpy()[0]
    total = first + second
    peer = ElasticNet(alpha=total, l1_ratio=first / total, fit_intercept=False, tol=1e-10, max_iter=100_000)
    theirs = peer.fit(x_ND.numpy(), y_N.numpy()).coef_
    assert np.abs(ours - theirs).max() < 1e-3
    assert (ours == 0).tolist() == (theirs == 0).tolist()
    gap = objective(ours, x_ND, y_N, *strengths) - objective(theirs, x_ND, y_N, *strengths)
    assert gap < 1e-6


def test_l1_recovers_a_planted_support_that_an_unpenalised_fit_does_not() -> None:
    x_ND, y_N, weights_D = planted()
    found = least_squares(x_ND, y_N, Regularisation(l1=0.1))
    control = least_squares(x_ND, y_N, Regularisation())
    assert (found.weight[0] != 0).tolist() == (weights_D != 0).tolist()
    assert (control.weight != 0).all()
    assert sparsity(found)[0].zeros == 16 and sparsity(found)[0].dead_inputs == 16


@pytest.mark.slow
def test_l1_as_part_of_the_loss_never_gives_an_exact_zero() -> None:
    x_ND, y_N, _ = planted()
    found = least_squares(x_ND, y_N, Regularisation(l1=0.1, proximal=False))
    exact = Lasso(alpha=0.1, fit_intercept=False, tol=1e-10).fit(x_ND.numpy(), y_N.numpy()).coef_
    assert (found.weight != 0).all()
    assert np.abs(found.weight.detach().numpy()[0] - exact).max() < 0.02


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31 - 1), st.floats(0, 2), st.floats(0, 3))
def test_the_proximal_operator_is_a_minimum(seed: int, l1: float, group: float) -> None:
    rng = np.random.default_rng(seed)
    moved_GD, metric_GD = torch.tensor(rng.standard_normal((3, 4))), torch.tensor(rng.uniform(0.1, 3, (3, 4)))
    best_GD = proximal(moved_GD, metric_GD, l1, group)

    def value(w_GD: Tensor) -> float:
        distance = 0.5 * (metric_GD * (w_GD - moved_GD).square()).sum()
        return float(distance + l1 * w_GD.abs().sum() + group * torch.linalg.vector_norm(w_GD, dim=1).sum())

    around = [
        best_GD + scale * torch.tensor(rng.standard_normal((3, 4))) for scale in (1e-3, 0.1, 1.0) for _ in range(9)
    ]
    assert all(value(best_GD) <= value(w_GD) + 1e-12 for w_GD in [*around, moved_GD, torch.zeros_like(moved_GD)])


def test_the_proximal_operator_in_the_plain_metric_is_the_closed_form() -> None:
    moved_GD = torch.tensor([[3.0, -4.0], [0.3, 0.4]], dtype=torch.float64)
    ones_GD = torch.ones_like(moved_GD)
    assert torch.allclose(proximal(moved_GD, ones_GD, 0.0, 1.0), torch.tensor([[2.4, -3.2], [0, 0]]).double())
    assert torch.equal(proximal(moved_GD, ones_GD, 1.0, 0.0), soft_threshold(moved_GD, 1.0))


@pytest.mark.slow
def test_group_lasso_kills_whole_inputs_that_say_nothing() -> None:
    rng = np.random.default_rng(1)
    x_ND = torch.tensor(rng.standard_normal((100, 8)))
    y_N = torch.tensor(np.tanh(x_ND[:, 2].numpy() - x_ND[:, 5].numpy()))

    def fitted(strength: float) -> nn.Module:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1)).double()
        regularisation = Regularisation(group_lasso=strength, first_layer=True)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, weight_decay=0.0)
        for _ in range(250):
            optimizer.zero_grad()
            (0.5 * (module(x_ND)[:, 0] - y_N).square().mean()).backward()
            optimizer.step()
            if regularisation.shrinks:
                shrink(module, optimizer, regularisation, 0.02)
        return module

    into = grouped(fitted(0.01)[0].weight, "inputs").detach()  # type: ignore[index]
    assert (into != 0).any(dim=1).tolist() == [place in (2, 5) for place in range(8)]
    assert sparsity(fitted(0.0))[0].dead_inputs == 0


def test_worked_values() -> None:
    weight = torch.tensor([[3.0, 0.0], [4.0, -1.0]])
    assert (float(l1(weight)), float(l2(weight))) == (8.0, 13.0)
    assert float(group_lasso(grouped(weight, "inputs"))) == pytest.approx(math.sqrt(2) * 6)
    assert float(group_lasso(grouped(weight, "outputs"))) == pytest.approx(math.sqrt(2) * (3 + math.sqrt(17)))
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(weight, requires_grad=False)
    assert float(shrinkage(module, Regularisation(l1=0.5))) == 4.0
    assert float(weight_penalty(module, Regularisation(l1=0.5, l2=1.0))) == 13.0
    assert float(weight_penalty(module, Regularisation(l1=0.5, l2=1.0, proximal=False))) == 17.0


@pytest.mark.parametrize("penalty", [l1, l2, spectral, lambda w: group_lasso(grouped(w, "inputs"))])
def test_gradients_are_those_of_finite_differences(penalty: object) -> None:
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty, (weight,), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (4, 9), (6, 3, 3, 3)])
def test_power_iteration_finds_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = float(torch.linalg.svdvals(weight.flatten(1))[0])
    assert float(spectral_norm(weight, iterations=200)) == pytest.approx(exact, rel=1e-9)
    assert float(spectral_norm(weight)) <= exact + 1e-12


def test_the_jacobian_estimate_is_unbiased() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    row_D = torch.randn(5, dtype=torch.float64)
    inputs = row_D.repeat(20_000, 1).requires_grad_()
    estimate_B = jacobian_norms(module(inputs), inputs, 1, torch.Generator().manual_seed(0)).detach()
    exact = float(torch.autograd.functional.jacobian(module, row_D).square().sum())  # type: ignore[union-attr]
    error = float(estimate_B.std()) / math.sqrt(len(estimate_B))
    assert abs(float(estimate_B.mean()) - exact) < 4 * error
    assert error < 0.01 * exact


def test_the_jacobian_penalty_has_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x_BD = torch.randn(5, 3, dtype=torch.float64)

    def penalty(weight: Tensor) -> Tensor:
        inputs = x_BD.clone().requires_grad_()
        logits = torch.func.functional_call(module, {"0.weight": weight}, (inputs,))
        return jacobian_norms(logits, inputs, 2, torch.Generator().manual_seed(1)).sum()

    weight = module[0].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(penalty, (weight,), eps=1e-6, atol=1e-6)
