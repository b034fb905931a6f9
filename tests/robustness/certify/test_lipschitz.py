"""Spectral norms are never below the singular values; margins by Lipschitz bounds hold and are exact where linear."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raysafe.robustness.certify import spectral
from raysafe.robustness.certify.affine import Averages, Convolution
from raysafe.robustness.certify.certificate import certify
from raysafe.robustness.certify.graph import Graph
from raysafe.robustness.certify.interval import box
from raysafe.robustness.certify.lipschitz import margin_lipschitz


@pytest.mark.parametrize("shape", [(3, 8, 5), (1, 5, 8), (40, 40), (7, 1)])
def test_the_spectral_norm_is_just_above_the_greatest_singular_value(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape).double()
    share = spectral.spectral_norm(matrix) / torch.linalg.matrix_norm(matrix, 2)
    assert (share >= 1).all() and (share < 1.001).all()


def test_a_repeated_singular_value_and_zeros_are_bounded_too() -> None:
    """The identity is the worst case: n equal values."""
    assert 1 <= spectral.spectral_norm(3 * torch.eye(50)).item() / 3 < 1.001
    assert spectral.spectral_norm(torch.zeros(3, 4)).item() < 1e-100


@pytest.mark.parametrize("small_side", [512, 0])
@pytest.mark.parametrize("stride, dilation, groups", [(1, 1, 1), (2, 1, 2), (1, 2, 1)])
def test_a_convolutions_norm_is_above_its_matrix(
    small_side: int, stride: int, dilation: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectral, "_SMALL_SIDE", small_side)
    torch.manual_seed(0)
    layer = Convolution(torch.randn(4, 2 // groups, 3, 3), None, (stride,) * 2, (1, 1), (dilation,) * 2, groups)
    images = layer.apply(torch.eye(2 * 49).view(-1, 2, 7, 7)).flatten(1).double()
    share = spectral.operator_norm(layer, torch.Size((2, 7, 7))).item() / torch.linalg.matrix_norm(images, 2).item()
    assert 1 <= share < (1.001 if small_side else 2.5)


def test_an_average_poolings_norm_is_above_its_matrix() -> None:
    pool = Averages(nn.AvgPool2d(3, 2, 1))
    images = pool.apply(torch.eye(36).view(-1, 1, 6, 6)).flatten(1).double()
    assert spectral.operator_norm(pool, torch.Size((1, 6, 6))) >= torch.linalg.matrix_norm(images, 2)


def test_a_linear_classifiers_radius_is_the_distance_to_its_boundary() -> None:
    """Logit 0 - logit 1 = 3 x + 4 y - 1, whose boundary is |3 x + 4 y - 1| / 5 away."""
    model = nn.Linear(2, 2).double()
    model.load_state_dict({"weight": torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "bias": torch.tensor([-1.0, 0.0])})
    x = torch.tensor([[0.5, 0.5], [1.0, 1.0]]).double()
    found = certify(model, x, torch.tensor([0, 0]), 0.0, "lipschitz", clip=None, search_radius=2.0)
    assert found.radius.tolist() == pytest.approx([0.5, 1.2], abs=0.002) and found.radius[1] <= 1.2


def test_near_an_input_the_bound_is_smaller_and_still_above_the_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x, y_B = torch.rand(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    inputs = box(x, 0.02)
    entries = Graph(model).entries(inputs)
    near, whole = (margin_lipschitz(entries, y_B, local=local) for local in (True, False))
    assert (near <= whole * (1 + 1e-9)).all() and near.sum() < 0.9 * whole.sum()
    for _ in range(20):
        point = (inputs.lower + (inputs.upper - inputs.lower) * torch.rand_like(x)).requires_grad_()
        logits = model(point)
        margins_BK = logits.gather(1, y_B[:, None]) - logits
        for k in range(3):
            (slope,) = torch.autograd.grad(margins_BK[:, k].sum(), point, retain_graph=True)
            assert (slope.norm(dim=1) <= near[:, k] + 1e-6).all()
