"""No attack succeeds inside a certificate, for networks of every operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from raysafe.robustness.certify.graph import Graph
from raysafe.robustness.certify.interval import box
from raysafe.robustness.certify.margins import interval_margins, linear_margins, tightened_entries
from tests.robustness.certify.networks import NETWORKS, hunt


@pytest.mark.parametrize("name", NETWORKS)
@given(seed=st.integers(0, 2**31 - 1), epsilon=st.floats(0.002, 0.2))
@settings(max_examples=2, deadline=None)
def test_no_attack_succeeds_inside_a_certificate(name: str, seed: int, epsilon: float) -> None:
    """1,012 pairs of a point and an epsilon over all networks."""
    _, _, wrong = hunt(name, seed, 46, (epsilon,))
    assert not wrong, wrong


def test_the_hunt_finds_certificates_and_broken_points() -> None:
    certified, broken, _ = hunt("pooled", 5, 60, (0.01, 0.2))
    assert certified >= 10 and broken >= 5


def test_the_hunt_finds_an_unsound_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a bound that takes half the box."""
    from raysafe.robustness.certify import certificate

    monkeypatch.setattr(certificate, "box", lambda x, epsilon, clip: box(x, epsilon / 4, clip))
    assert any("broken" in found for found in hunt("pooled", 5, 60, (0.08,))[2])


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_worst_case_is_no_better_than_a_bound(seed: int) -> None:
    """By a linear program for each pattern of the hidden ReLUs, in each of which the network is linear."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double().eval()
    x = torch.rand(1, 3, dtype=torch.float64)
    y_B, inputs, graph = model(x).argmax(1), box(x, 0.3), Graph(model)
    exact_K = np.array([_exact(model, inputs.lower[0], inputs.upper[0], int(y_B), k) for k in range(3)])
    entries = graph.entries(inputs)
    interval, line = interval_margins(entries, y_B)[0], linear_margins(tightened_entries(graph, inputs), y_B)[0]
    for found in (interval, line):
        assert (found.detach().numpy() <= exact_K + 1e-9).all()


def _exact(model: nn.Module, low: torch.Tensor, high: torch.Tensor, label: int, other: int) -> float:
    first, _, second = (layer for layer in model)  # type: ignore[attr-defined]
    weight_HD, bias_H = first.weight.detach().numpy(), first.bias.detach().numpy()
    rows_KH, biases_K = second.weight.detach().numpy(), second.bias.detach().numpy()
    row_H, offset = rows_KH[label] - rows_KH[other], biases_K[label] - biases_K[other]
    best = np.inf
    for pattern in range(2 ** len(bias_H)):
        on_H = np.array([(pattern >> unit) & 1 for unit in range(len(bias_H))], dtype=float)
        side_H = 1 - 2 * on_H
        found = linprog(
            (row_H * on_H) @ weight_HD,
            A_ub=side_H[:, None] * weight_HD,
            b_ub=-side_H * bias_H,
            bounds=list(zip(low.numpy(), high.numpy(), strict=True)),
        )
        if found.status == 0:
            best = min(best, found.fun + (row_H * on_H) @ bias_H + offset)
    return best
