"""Images and lines of activations hold on a fine grid of each box, and touch it."""

from __future__ import annotations

import pytest
import torch

from raysafe.robustness.certify import curves
from raysafe.robustness.certify.activations import Curve, LeakyRelu
from raysafe.robustness.certify.interval import Interval
from raysafe.robustness.certify.operators import Elementwise
from raysafe.robustness.certify.pooling import MaxPool

FUNCTIONS: dict[str, Elementwise] = {
    "relu": LeakyRelu(),
    "leaky": LeakyRelu(0.2),
    "steep": curves.leaky(1.7),
    "tanh": curves.TANH,
    "sigmoid": curves.SIGMOID,
    "gelu": curves.GELU,
    "gelu-tanh": curves.GELU_TANH,
    "silu": curves.SILU,
    "elu": curves.elu(1.0),
    "elu-steep": curves.elu(2.0),
    "clipped": curves.clipped(-0.7, 1.2),
}


@pytest.fixture(scope="module")
def boxes() -> Interval:
    torch.manual_seed(0)
    ends = torch.cat([torch.randn(150, 2) * scale for scale in (0.01, 1.0, 4.0)]).double().sort(1).values
    return Interval(ends[:, 0], ends[:, 1])


def image(function: Elementwise, x: torch.Tensor) -> torch.Tensor:
    return function.interval(Interval(x, x)).centre


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lines_images_and_slopes_hold_and_touch(name: str, boxes: Interval) -> None:
    function = FUNCTIONS[name]
    grid_GB = boxes.lower + (boxes.upper - boxes.lower) * torch.linspace(0, 1, 301).double()[:, None]
    value_GB, step_B = image(function, grid_GB), (boxes.upper - boxes.lower) / 300
    lines, found = function.lines(boxes), function.interval(boxes)
    below = (value_GB - lines.lower_slope * grid_GB - lines.lower_offset).amin(0)
    above = (lines.upper_slope * grid_GB + lines.upper_offset - value_GB).amin(0)
    for gap in (below, above, (value_GB - found.lower).amin(0), (found.upper - value_GB).amin(0)):
        # a grid misses the point of contact by its step
        assert gap.min() >= -1e-12 and (gap < 1e-3 + 2 * step_B).all()
    steep = ((value_GB[1:] - value_GB[:-1]) / (grid_GB[1:] - grid_GB[:-1])).abs().amax(0)
    assert (function.slopes(boxes) >= steep - 1e-9).all() and function.steepest() >= steep.max() - 1e-9


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "gelu-tanh", "silu"])
def test_derivatives_and_the_points_of_a_curve_are_right(name: str) -> None:
    curve = FUNCTIONS[name]
    assert isinstance(curve, Curve)
    x = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(curve.value(x).sum(), x)
    torch.testing.assert_close(curve.derivative(x.detach()), slope)
    for points, function in ((curve.turns, curve.value), (curve.inflections, curve.derivative)):
        for point in points:
            at = torch.tensor([point - 1e-4, point, point + 1e-4], dtype=torch.float64)
            left, here, right = function(at).tolist()
            assert (left - here) * (right - here) > 0


def test_the_secant_of_relu_and_its_adaptive_lower_slope() -> None:
    """On [-1, 3] the chord is 3/4 (x + 1) and the lower slope 1; on [-3, 1] they are 1/4 (x + 3) and 0."""
    lines = LeakyRelu().lines(Interval(torch.tensor([-1.0, -3.0]).double(), torch.tensor([3.0, 1.0]).double()))
    assert lines.upper_slope.tolist() == [0.75, 0.25] and lines.lower_slope.tolist() == [1, 0]
    torch.testing.assert_close(lines.upper_offset, torch.tensor([0.75, 0.75]).double())


def test_tangents_of_tanh_through_an_end_are_used() -> None:
    """On [-3, 1.5] the upper line goes through (-3, tanh -3) and touches near 1, beyond the middle."""
    x = Interval(torch.tensor([-3.0]).double(), torch.tensor([1.5]).double())
    lines = curves.TANH.lines(x)
    at_end = lines.upper_slope * x.lower + lines.upper_offset
    torch.testing.assert_close(at_end, torch.tanh(x.lower), atol=1e-6, rtol=0)


def test_the_greatest_of_a_window_is_bounded_by_a_relu_of_its_strongest_entry() -> None:
    """Entries in [0, 4], [1, 2], [-1, 1], [0, 0]: max >= the second, max <= 2 + (4 - 2) / 4 * the first."""
    low = torch.tensor([0.0, 1.0, -1.0, 0.0]).double().view(1, 1, 2, 2)
    high = torch.tensor([4.0, 2.0, 1.0, 0.0]).double().view(1, 1, 2, 2)
    choice = MaxPool((2, 2), (2, 2)).choose(Interval(low, high))
    assert (choice.low.item(), choice.high.item(), choice.slope.item()) == (1, 0, 0.5)
    assert choice.offset.item() == pytest.approx(2, abs=1e-12)


def test_a_window_with_a_certain_winner_is_exact() -> None:
    low, high = (torch.tensor(row).double().view(1, 1, 1, 2) for row in ([3.0, 0.0], [4.0, 2.0]))
    choice = MaxPool((1, 2), (1, 2)).choose(Interval(low, high))
    assert (choice.low.item(), choice.high.item(), choice.slope.item(), choice.offset.item()) == (0, 0, 1, 0)
