"""Preference losses against their formulas worked by hand, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysafe.alignment.losses import bradley_terry_loss, dpo_loss, likelihood_loss

POLICY_CHOSEN, POLICY_REJECTED = torch.tensor([-10.0, -3.0]), torch.tensor([-12.0, -2.0])
REF_CHOSEN, REF_REJECTED = torch.tensor([-11.0, -3.5]), torch.tensor([-11.5, -4.0])
# delta = (policy_c - ref_c) - (policy_r - ref_r) = (1 - -0.5, 0.5 - 2) = (1.5, -1.5)
DELTA = (1.5, -1.5)
finite = st.floats(-50, 50)


def loss(**options) -> torch.Tensor:
    return dpo_loss(POLICY_CHOSEN, POLICY_REJECTED, REF_CHOSEN, REF_REJECTED, **options)[0]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_sigmoid_loss_is_minus_log_sigmoid_of_beta_delta() -> None:
    assert loss(beta=0.3).tolist() == pytest.approx([softplus(-0.3 * d) for d in DELTA])


def test_conservative_loss_mixes_both_labels() -> None:
    expected = [0.8 * softplus(-0.3 * d) + 0.2 * softplus(0.3 * d) for d in DELTA]
    assert loss(beta=0.3, kind="conservative", label_smoothing=0.2).tolist() == pytest.approx(expected)


def test_robust_loss_is_unbiased_under_label_flips() -> None:
    expected = [(0.8 * softplus(-0.3 * d) - 0.2 * softplus(0.3 * d)) / 0.6 for d in DELTA]
    assert loss(beta=0.3, kind="robust", label_smoothing=0.2).tolist() == pytest.approx(expected)
    # flipping a fifth of the labels gives the clean sigmoid loss in expectation (Chowdhury et al. 2024, lemma 3.1)
    flipped = dpo_loss(
        POLICY_REJECTED, POLICY_CHOSEN, REF_REJECTED, REF_CHOSEN, beta=0.3, kind="robust", label_smoothing=0.2
    )[0]
    mixture = 0.8 * loss(beta=0.3, kind="robust", label_smoothing=0.2) + 0.2 * flipped
    torch.testing.assert_close(mixture, loss(beta=0.3))


def test_ipo_is_length_averaged() -> None:
    lengths = torch.tensor([2.0, 4.0]), torch.tensor([5.0, 1.0])
    value = loss(beta=0.25, kind="ipo", chosen_lengths_B=lengths[0], rejected_lengths_B=lengths[1])
    expected = [(1 / 2 - -0.5 / 5 - 2) ** 2, (0.5 / 4 - 2 / 1 - 2) ** 2]
    assert value.tolist() == pytest.approx(expected)


def test_hinge_is_zero_past_the_margin() -> None:
    assert loss(beta=1.0, kind="hinge").tolist() == pytest.approx([0.0, 2.5])


def test_rewards_are_beta_times_the_gain_over_the_reference_and_detached() -> None:
    policy = POLICY_CHOSEN.clone().requires_grad_()
    _, chosen, rejected = dpo_loss(policy, POLICY_REJECTED, REF_CHOSEN, REF_REJECTED, beta=0.5)
    assert chosen.tolist() == pytest.approx([0.5, 0.25])
    assert rejected.tolist() == pytest.approx([-0.25, 1.0])
    assert not chosen.requires_grad


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "hinge"])
def test_smoothing_that_would_do_nothing_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="does nothing"):
        loss(beta=0.1, kind=kind, label_smoothing=0.1)


def test_robust_needs_smoothing_below_one_half() -> None:
    with pytest.raises(ValueError, match=r"below 0\.5"):
        loss(beta=0.1, kind="robust", label_smoothing=0.5)


def test_ipo_needs_lengths() -> None:
    with pytest.raises(ValueError, match="lengths"):
        loss(beta=0.1, kind="ipo")


@pytest.mark.parametrize("beta", [0.0, -0.1])
def test_beta_must_be_positive(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be positive"):
        loss(beta=beta)


@pytest.mark.parametrize(
    ("kind", "smoothing"), [("sigmoid", 0.0), ("conservative", 0.1), ("robust", 0.1), ("ipo", 0.0), ("hinge", 0.0)]
)
def test_gradients_equal_finite_differences(kind: str, smoothing: float) -> None:
    inputs = [x.double().requires_grad_() for x in (POLICY_CHOSEN, POLICY_REJECTED)]
    lengths = {"chosen_lengths_B": torch.tensor([2.0, 4.0]), "rejected_lengths_B": torch.tensor([5.0, 1.0])}

    def total(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        options = lengths if kind == "ipo" else {}
        reference = REF_CHOSEN.double(), REF_REJECTED.double()
        return dpo_loss(chosen, rejected, *reference, beta=0.3, kind=kind, label_smoothing=smoothing, **options)[0]

    assert torch.autograd.gradcheck(total, inputs)


def test_large_gaps_do_not_overflow() -> None:
    big = torch.tensor([1e4])
    value, _, _ = dpo_loss(big, -big, -big, big, beta=1.0)
    assert value.item() == 0.0
    worst, _, _ = dpo_loss(-big, big, big, -big, beta=1.0)
    assert worst.item() == pytest.approx(4e4)


@given(finite, finite, st.floats(0.01, 2))
def test_swapping_the_pair_swaps_the_sides(gain_chosen: float, gain_rejected: float, beta: float) -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    a, b = (torch.tensor([x], dtype=torch.float64) for x in (gain_chosen, gain_rejected))
    forward, back = dpo_loss(a, b, zero, zero, beta=beta)[0], dpo_loss(b, a, zero, zero, beta=beta)[0]
    assert (forward - back).item() == pytest.approx(-beta * (gain_chosen - gain_rejected), abs=1e-9)


def test_likelihood_is_the_cross_entropy_of_the_chosen_tokens() -> None:
    logits_TV = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens_T = torch.tensor([3, 0, 6, 2, 2])
    logp = torch.log_softmax(logits_TV, -1)[torch.arange(5), tokens_T].sum()
    expected = torch.nn.functional.cross_entropy(logits_TV, tokens_T)
    assert likelihood_loss(logp[None], torch.tensor([5.0])).item() == pytest.approx(expected.item())


def test_bradley_terry_with_margin_and_centring_by_hand() -> None:
    chosen, rejected = torch.tensor([1.0, -0.5]), torch.tensor([0.2, 0.5])
    value = bradley_terry_loss(chosen, rejected, margin_B=torch.tensor([0.3, 0.0]), center=0.1)
    expected = [softplus(-(0.8 - 0.3)) + 0.1 * 1.2**2, softplus(1.0) + 0.1 * 0.0]
    assert value.tolist() == pytest.approx(expected)


@given(finite, finite, finite)
def test_bradley_terry_ignores_a_common_shift_unless_centred(chosen: float, rejected: float, shift: float) -> None:
    a, b = (torch.tensor([x], dtype=torch.float64) for x in (chosen, rejected))
    torch.testing.assert_close(bradley_terry_loss(a + shift, b + shift), bradley_terry_loss(a, b), atol=1e-9, rtol=1e-9)
