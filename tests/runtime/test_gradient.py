"""The accumulated gradient is that of the whole step's mean, however it falls into micro-batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from raysafe.runtime.gradient import Sums, accumulate

CPU = torch.device("cpu")


def module() -> nn.Linear:
    made = nn.Linear(3, 1).double()
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
        made.bias.fill_(0.1)
    return made


def squares(net: nn.Module, batch_BD: Tensor) -> tuple[Tensor, dict[str, Any]]:
    loss_B = net(batch_BD).squeeze(-1) ** 2
    return loss_B.sum(), {"large": ((loss_B > 1).sum(), float(len(batch_BD)))}


def rows(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(count)).double()


def gathered(net: nn.Module, batches: list[tuple[Tensor, bool]], *, weight: float, ranks: int = 1) -> Sums:
    return accumulate(net, squares, batches, weight=weight, ranks=ranks, dtype=torch.float64, device=CPU)


def gradient(net: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_uneven_micro_batches_have_the_gradient_of_the_mean_over_all(sizes: list[int]) -> None:
    data, whole, parts = rows(sum(sizes)), module(), module()
    (squares(whole, data)[0] / len(data)).backward()
    sums = gathered(parts, [(part, True) for part in data.split(sizes)], weight=len(data))
    torch.testing.assert_close(gradient(parts), gradient(whole), rtol=1e-12, atol=1e-12)
    figures = sums.over_ranks(len(data), CPU)
    loss, metrics = squares(whole, data)
    assert figures["loss"] == pytest.approx(float(loss) / len(data))
    assert figures["large"] == pytest.approx(float(metrics["large"][0]) / len(data))


def test_the_average_over_ranks_of_their_gradients_is_the_whole_steps() -> None:
    data, whole, first, second = rows(7), module(), module(), module()
    (squares(whole, data)[0] / 7).backward()
    gathered(first, [(data[:5], True)], weight=7, ranks=2)
    gathered(second, [(data[5:], True)], weight=7, ranks=2)
    torch.testing.assert_close((gradient(first) + gradient(second)) / 2, gradient(whole), rtol=1e-12, atol=1e-12)


def test_a_batch_that_only_keeps_step_adds_nothing() -> None:
    data, plain, padded = rows(4), module(), module()
    expected = gathered(plain, [(data, True)], weight=4)
    found = gathered(padded, [(data, True), (rows(3), False)], weight=4)
    torch.testing.assert_close(gradient(padded), gradient(plain), rtol=0, atol=0)
    assert (found.loss, found.sums, found.counts) == (expected.loss, expected.sums, expected.counts)


def test_a_rank_without_work_has_a_gradient_of_zero_and_figures_without_counts() -> None:
    net = module()
    sums = gathered(net, [(rows(3), False)], weight=5)
    assert not gradient(net).any()
    assert sums.over_ranks(5, CPU) == {"loss": 0.0, "large": 0.0}


def test_the_first_batch_whose_loss_is_not_finite_is_known() -> None:
    sums = Sums()
    for place, value in enumerate((1.0, 2.0, math.inf, 3.0, math.nan)):
        sums.add(torch.tensor(value), {}, True)
        assert sums.bad == (None if place < 2 else 2)


def test_a_loss_that_is_not_finite_in_a_batch_that_does_not_count_is_not_bad() -> None:
    sums = Sums()
    sums.add(torch.tensor(math.nan), {"x": (torch.tensor(math.nan), 1.0)}, False)
    assert sums.bad is None
    assert sums.over_ranks(1.0, CPU) == {"loss": 0.0, "x": 0.0}
