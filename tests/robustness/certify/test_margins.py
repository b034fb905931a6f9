"""Bounds agree with examples worked by hand, and are exact where a network is linear."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raysafe.robustness.certify.graph import Graph
from raysafe.robustness.certify.interval import Interval, box
from raysafe.robustness.certify.margins import interval_margins, linear_margins, tightened_entries


def dense(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer.double()


@pytest.fixture
def by_hand() -> nn.Module:
    """z = (x1 + x2, x1 - x2), a = relu(z), logits = (a1 + a2 + 1, a1 - a2)."""
    return nn.Sequential(dense([[1, 1], [1, -1]], [0, 0]), nn.ReLU(), dense([[1, 1], [1, -1]], [1, 0])).eval()


UNIT = Interval(-torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
ZERO = torch.tensor([0])


def test_intervals_are_those_worked_by_hand(by_hand: nn.Module) -> None:
    """z is in [-2, 2]^2, a in [0, 2]^2, the logits in [1, 5] x [-2, 2]; logit 0 - logit 1 = 2 a2 + 1 >= 1."""
    entries = Graph(by_hand).entries(UNIT)
    for entry, low, high in zip(entries[1:], ([-2, -2], [0, 0], [1, -2]), ([2, 2], [2, 2], [5, 2]), strict=True):
        torch.testing.assert_close(entry.output.lower, torch.tensor([low], dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(entry.output.upper, torch.tensor([high], dtype=torch.float64), atol=1e-9, rtol=0)
    assert interval_margins(entries, ZERO).tolist() == [[pytest.approx(0), pytest.approx(1, abs=1e-9)]]


def test_lines_are_those_worked_by_hand(by_hand: nn.Module) -> None:
    """Logit 1 - logit 0 = -2 a2 - 1 >= -(z2 + 2) - 1 by the chord a2 <= (z2 + 2) / 2; z2 is 2 at most: -5."""
    entries = Graph(by_hand).entries(UNIT)
    assert linear_margins(entries, torch.tensor([1]))[0, 0].item() == pytest.approx(-5, abs=1e-9)


def test_lines_know_that_two_activations_share_an_input() -> None:
    """relu(x) - relu(x) + 1 on [1, 2]: intervals say 0, lines are exact."""
    model = nn.Sequential(dense([[1], [1]], [0, 0]), nn.ReLU(), dense([[1, -1], [0, 0]], [1, 0])).eval()
    entries = Graph(model).entries(Interval(torch.tensor([[1.0]]).double(), torch.tensor([[2.0]]).double()))
    assert interval_margins(entries, ZERO)[0, 1].item() == pytest.approx(0, abs=1e-9)
    assert linear_margins(entries, ZERO)[0, 1].item() == pytest.approx(1, abs=1e-9)


def test_a_linear_network_is_exact_by_every_bound() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(27, 4)).double().eval()
    x, y = torch.rand(5, 2, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    inputs, graph = box(x, 0.1), Graph(model)

    def margins(value: Tensor) -> Tensor:
        logits = model(value)
        return logits.gather(1, y[:, None]) - logits

    exact = torch.zeros(5, 4, dtype=torch.float64)
    for k in range(4):
        point = inputs.centre.requires_grad_()
        (slope,) = torch.autograd.grad(margins(point)[:, k].sum(), point)
        corner = torch.where(slope > 0, inputs.lower, inputs.upper)
        exact[:, k] = margins(corner).detach()[:, k]
    for found in (linear_margins(graph.entries(inputs), y), linear_margins(tightened_entries(graph, inputs), y)):
        torch.testing.assert_close(found, exact, atol=1e-9, rtol=0)
    torch.testing.assert_close(interval_margins(graph.entries(inputs), y), exact, atol=1e-9, rtol=0)


def test_the_gradients_of_bounds_are_finite_differences() -> None:
    torch.manual_seed(0)
    activation = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), activation, nn.Linear(4, 4), activation, nn.Linear(4, 3)).double()
    graph, y_B = Graph(model), torch.tensor([0, 2])
    inputs, weight = box(torch.rand(2, 3, dtype=torch.float64), 0.2), model[0].weight

    def total() -> Tensor:
        entries = graph.entries(inputs)
        lines = linear_margins(entries, y_B) + linear_margins(tightened_entries(graph, inputs), y_B)
        return (interval_margins(entries, y_B) + lines).sum()

    (found,) = torch.autograd.grad(total(), weight)
    with torch.no_grad():
        for place in ((0, 0), (2, 1)):
            weight[place] += 1e-6
            above = total()
            weight[place] -= 2e-6
            below = total()
            weight[place] += 1e-6
            assert found[place].item() == pytest.approx(((above - below) / 2e-6).item(), rel=0.02, abs=1e-4)
