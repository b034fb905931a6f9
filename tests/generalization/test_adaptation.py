"""Losses of domain adaptation, against worked values, other code's kernel, and the sign of a gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raysafe.generalization.adaptation import (
    coral_loss,
    domain_loss,
    mmd_loss,
    reversal_strength,
    reverse_gradient,
)
from raysafe.generalization.shift_statistics import median_gamma, pairs_mean, squared_distances


def drawn(rows: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_coral_of_a_worked_example() -> None:
    # variances 2 and 8, covariances 2 and -4: differences 6, 6 and twice 6, over 4 * 2^2
    source = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    target = torch.tensor([[0.0, 4.0], [4.0, 0.0]])
    assert coral_loss(source, target).item() == pytest.approx((6**2 + 6**2 + 2 * 10**2) / 16)


def test_coral_sees_no_shift_of_the_mean() -> None:
    assert coral_loss(drawn(20), drawn(20) + 5).item() == pytest.approx(0, abs=1e-12)


def test_mmd_of_one_kernel_equals_that_of_the_tests_of_shift() -> None:
    source, target = drawn(12), drawn(9, shift=1, seed=1)
    both = torch.cat([source, target]).numpy()
    kernel = np.exp(-median_gamma(both) * squared_distances(both, both))
    expected = pairs_mean(kernel[:12, :12]) + pairs_mean(kernel[12:, 12:]) - 2 * kernel[:12, 12:].mean()
    assert mmd_loss(source, target, widths=(1.0,)).item() == pytest.approx(expected, rel=1e-9)


def test_mmd_is_the_mean_over_its_kernels() -> None:
    source, target = drawn(12), drawn(9, shift=1, seed=1)
    each = [mmd_loss(source, target, widths=(width,)).item() for width in (0.5, 2.0)]
    assert mmd_loss(source, target, widths=(0.5, 2.0)).item() == pytest.approx(np.mean(each))


def test_mmd_is_unbiased_under_no_shift_and_large_under_one() -> None:
    null = [mmd_loss(drawn(10, seed=2 * i), drawn(10, seed=2 * i + 1)).item() for i in range(200)]
    assert abs(np.mean(null)) < 3 * np.std(null) / math.sqrt(200)
    assert mmd_loss(drawn(10), drawn(10, shift=2, seed=1)).item() > max(null)


@pytest.mark.parametrize("loss", [coral_loss, mmd_loss])
def test_gradients_equal_finite_differences(loss: object) -> None:
    assert callable(loss)
    source = drawn(5).requires_grad_()
    # the widths follow the samples, and no gradient goes through them: they are held by pinned far points
    target = torch.cat([drawn(5, seed=1), drawn(40, shift=1, seed=2)])
    (gradient,) = torch.autograd.grad(loss(source, target), source)
    step = torch.zeros_like(source)
    step[2, 1] = 1e-6
    with torch.no_grad():
        numeric = (loss(source + step, target) - loss(source - step, target)) / 2e-6
    assert gradient[2, 1].item() == pytest.approx(numeric.item(), rel=1e-3, abs=1e-7)


def test_descending_either_loss_brings_the_domains_together() -> None:
    for loss in (coral_loss, mmd_loss):
        moved = (3 * drawn(30) + 1).requires_grad_()
        target = drawn(30, seed=1)
        first = loss(moved, target).item()
        optimizer = torch.optim.Adam([moved], lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            loss(moved, target).backward()
            optimizer.step()
        assert loss(moved, target).item() < 0.1 * first


def test_a_reversed_gradient_is_minus_strength_times_the_gradient_and_the_features_are_the_same() -> None:
    features = drawn(4).requires_grad_()
    out = reverse_gradient(features, 0.25)
    assert torch.equal(out, features)
    (out**2).sum().backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, -0.25 * 2 * features.detach())


def test_the_strength_of_the_reversal_goes_from_0_to_nearly_1() -> None:
    assert reversal_strength(0.0) == 0
    assert reversal_strength(0.5) == pytest.approx(math.tanh(2.5))
    assert reversal_strength(1.0) == pytest.approx(0.9999, abs=1e-4)


def test_the_domain_loss_weighs_both_domains_the_same() -> None:
    loss, accuracy = domain_loss(torch.zeros(3), torch.tensor([4.0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log1p(math.exp(-4))) / 2)
    assert accuracy.item() == 0.5
