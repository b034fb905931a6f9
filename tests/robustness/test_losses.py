"""Losses of adversarial training, against numbers worked by hand and torch's own."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torchs_divergence

from raysafe.robustness.losses import kl_divergence, mart_loss, trades_loss


def logits(*rows: list[float]) -> torch.Tensor:
    """Logits whose softmax are these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


CLEAN, ADVERSARIAL, Y = logits([0.5, 0.25, 0.25]), logits([0.25, 0.25, 0.5]), torch.tensor([0])
DIVERGENCE = 0.5 * math.log(2) - 0.25 * math.log(2)


def test_trades_is_cross_entropy_and_the_weighted_divergence() -> None:
    (loss,) = trades_loss(CLEAN, ADVERSARIAL, Y, 6.0).tolist()
    assert math.isclose(loss, math.log(2) + 6 * DIVERGENCE, rel_tol=1e-12)


def test_mart_is_boosted_cross_entropy_and_the_divergence_weighted_by_doubt() -> None:
    (loss,) = mart_loss(CLEAN, ADVERSARIAL, Y, 5.0).tolist()
    boosted = -math.log(0.25) - math.log(1 - 0.5)
    assert math.isclose(loss, boosted + 5 * DIVERGENCE * (1 - 0.5), rel_tol=1e-12)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=2))
def test_the_divergence_is_torchs_and_0_between_equals(rows: list[tuple[float, float, float]]) -> None:
    a_BK, b_BK = (torch.tensor([row], dtype=torch.float64) for row in rows)
    torch.testing.assert_close(
        kl_divergence(a_BK, b_BK), torchs_divergence(Categorical(logits=a_BK), Categorical(logits=b_BK))
    )
    assert kl_divergence(a_BK, a_BK).abs().item() < 1e-12


def test_mart_is_finite_where_another_class_is_certain() -> None:
    sure = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = mart_loss(sure, sure, torch.tensor([0]), 5.0).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert sure.grad is not None
    assert torch.isfinite(sure.grad).all()
