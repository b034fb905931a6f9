"""The diagonal Fisher information against closed forms and the curvature of the divergence; the penalty it makes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian

from raysafe.generalization.fisher import Importance, diagonal_fisher, ewc_penalty


def inputs(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(*hidden: int) -> nn.Module:
    torch.manual_seed(1)
    sizes = [3, *hidden, 4]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def test_a_linear_classifiers_fisher_is_x_squared_times_p_of_1_minus_p() -> None:
    network, x_ND = small(), inputs(7)
    p_NK = network(x_ND).softmax(dim=1).detach()
    spread_NK = p_NK * (1 - p_NK)
    found = diagonal_fisher(network, x_ND, range(4), chunk=3)
    torch.testing.assert_close(found["0.weight"], torch.einsum("nk,nd->kd", spread_NK, x_ND.square()) / 7)
    torch.testing.assert_close(found["0.bias"], spread_NK.mean(dim=0))


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (1, 3)])
def test_the_fisher_is_the_diagonal_of_the_divergences_curvature(classes: tuple[int, ...]) -> None:
    network, x_ND = small(5), inputs(6)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    p_NK = network(x_ND)[:, list(classes)].log_softmax(dim=1).detach()

    def divergence(values: dict[str, Tensor]) -> Tensor:
        other_NK = functional_call(network, values, (x_ND,))[:, list(classes)].log_softmax(dim=1)
        return (p_NK.exp() * (p_NK - other_NK)).sum(dim=1).mean()

    curvature = hessian(divergence)(parameters)
    found = diagonal_fisher(network, x_ND, classes)
    for name, values in parameters.items():
        diagonal = curvature[name][name].reshape(values.numel(), values.numel()).diagonal().reshape(values.shape)
        torch.testing.assert_close(found[name], diagonal, rtol=1e-8, atol=1e-12)


def test_frozen_parameters_have_none_and_the_mode_is_restored() -> None:
    network = small(5).train()
    network.get_parameter("0.weight").requires_grad_(False)
    assert "0.weight" not in diagonal_fisher(network, inputs(2), range(4))
    assert network.training


def test_the_penalty_of_worked_numbers_adds_up_over_tasks() -> None:
    first = Importance({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([2.0, 3.0])})
    second = Importance({"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([0.0, 5.0])})
    weights = {"w": torch.tensor([3.0, 2.0])}
    # (2 * 2^2 + 3 * 2^2 + 5 * 2^2) / 2
    assert ewc_penalty(weights, [first, second]).item() == 20


def test_the_penalty_is_the_divergence_for_small_steps_of_one_weight() -> None:
    network, x_ND = small(), inputs(50)
    fisher = diagonal_fisher(network, x_ND, range(4))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    log_p_NK = network(x_ND).log_softmax(dim=1).detach()
    with torch.no_grad():
        network.get_parameter("0.weight")[2, 1] += 1e-3
        moved_NK = network(x_ND).log_softmax(dim=1)
        divergence = (log_p_NK.exp() * (log_p_NK - moved_NK)).sum(dim=1).mean()
        penalty = ewc_penalty(dict(network.named_parameters()), [Importance(before, fisher)])
    assert penalty.item() == pytest.approx(divergence.item(), rel=5e-3)
