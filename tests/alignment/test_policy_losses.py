"""PPO's losses, KL estimates and importance weights by hand, by finite differences and by exact enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from raysafe.alignment.losses import importance_weights, kl_estimate, ppo_policy_loss, ppo_value_loss

# ratios of the policy to the old one: below, within and above [0.8, 1.2]
RATIOS = (0.5, 0.9, 1.1, 1.5)
logp = st.floats(-30, 0)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def policy(advantage: float, **options: float) -> tuple[list[float], list[bool], list[float]]:
    """Losses, flags and gradients with respect to log p, for each ratio."""
    logps = (column(*RATIOS).log() - 1.0).requires_grad_()
    loss, clipped = ppo_policy_loss(logps, column(-1, -1, -1, -1), column(*[advantage] * 4), **options)  # type: ignore[arg-type]
    loss.sum().backward()
    assert logps.grad is not None
    return loss.tolist(), clipped.tolist(), logps.grad.tolist()


def test_good_tokens_stop_gaining_above_the_clip() -> None:
    loss, clipped, gradient = policy(2.0)
    assert loss == pytest.approx([-2 * 0.5, -2 * 0.9, -2 * 1.1, -2 * 1.2])
    assert clipped == [False, False, False, True]
    assert gradient == pytest.approx([-1.0, -1.8, -2.2, 0.0])


def test_bad_tokens_stop_gaining_below_the_clip() -> None:
    loss, clipped, gradient = policy(-2.0)
    assert loss == pytest.approx([2 * 0.8, 2 * 0.9, 2 * 1.1, 2 * 1.5])
    assert clipped == [True, False, False, False]
    assert gradient == pytest.approx([0.0, 1.8, 2.2, 3.0])


def test_the_upper_bound_may_stand_apart_from_the_lower() -> None:
    loss, clipped, _ = policy(1.0, clip_low=0.05, clip_high=0.4)
    assert loss == pytest.approx([-0.5, -0.9, -1.1, -1.4])
    assert clipped == [False, False, False, True]
    loss, clipped, _ = policy(-1.0, clip_low=0.05, clip_high=0.4)
    assert loss == pytest.approx([0.95, 0.95, 1.1, 1.5])
    assert clipped == [True, True, False, False]


def test_dual_clip_bounds_the_loss_of_bad_tokens_alone() -> None:
    loss, clipped, gradient = policy(-2.0, dual_clip=1.3)
    assert loss == pytest.approx([1.6, 1.8, 2.2, 2.6])
    assert clipped == [True, False, False, True]
    assert gradient == pytest.approx([0.0, 1.8, 2.2, 0.0])
    assert policy(2.0, dual_clip=1.3) == policy(2.0)


@pytest.mark.parametrize("advantage", [1.5, -1.5])
@pytest.mark.parametrize("options", [{}, {"clip_low": 0.15, "clip_high": 0.3}, {"dual_clip": 1.2}])
def test_gradients_of_the_policy_loss_equal_finite_differences(advantage: float, options: dict[str, float]) -> None:
    old, advantages = column(-1, -1, -1, -1), column(*[advantage] * 4)
    logps = (column(*RATIOS).log() - 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ppo_policy_loss(x, old, advantages, **options)[0], logps)  # type: ignore[arg-type]


def test_at_the_old_policy_the_gradient_is_the_policy_gradient() -> None:
    logps, advantages = column(-3, -0.2, -1).requires_grad_(), column(2, -1, 0.5)
    ppo_policy_loss(logps, logps.detach(), advantages, clip_low=0.2)[0].sum().backward()
    assert logps.grad is not None and logps.grad.tolist() == pytest.approx((-advantages).tolist())


def test_one_stray_token_leaves_the_loss_finite() -> None:
    loss, _ = ppo_policy_loss(column(0.0, -1e4), column(-1e4, 0.0), column(-1.0, -1.0))
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"clip_low": 1.0}, "clip_low must be in"),
        ({"clip_high": 0.0}, "clip_high above 0"),
        ({"dual_clip": 1.0}, "1.0"),
    ],
)
def test_bounds_without_a_meaning_are_refused(options: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ppo_policy_loss(column(0), column(0), column(1), **options)  # type: ignore[arg-type]


def test_the_value_loss_is_half_the_larger_of_both_squared_errors() -> None:
    # before 1, return 2, moves by at most 0.2: values 1.1 (free), 1.5 (held at 1.2), 3 (free 1 > held 0.64), 0.5
    values = column(1.1, 1.5, 3.5, 0.5).requires_grad_()
    loss, held = ppo_value_loss(values, column(1, 1, 1, 1), column(2, 2, 2, 2), clip=0.2)
    assert loss.tolist() == pytest.approx([0.405, 0.32, 1.125, 1.125])
    assert held.tolist() == [False, True, False, False]
    loss.sum().backward()
    assert values.grad is not None and values.grad.tolist() == pytest.approx([-0.9, 0.0, 1.5, -1.5])


def test_without_a_clip_the_value_loss_is_half_the_squared_error() -> None:
    loss, held = ppo_value_loss(column(1.5, 4.0), column(0, 0), column(2, 2))
    assert loss.tolist() == [0.125, 2.0]
    assert not held.any()
    with pytest.raises(ValueError, match=r"clip must be above 0, got 0\.0"):
        ppo_value_loss(column(1), column(1), column(1), clip=0.0)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_gradients_of_the_value_loss_equal_finite_differences(clip: float | None) -> None:
    old, returns = column(1, 1, 1, 1), column(2, 2, 2, 2)
    values = column(1.1, 1.5, 3.5, 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ppo_value_loss(x, old, returns, clip=clip)[0], values)


def test_kl_estimates_by_hand() -> None:
    # d = 0.5 and -1
    logps, reference = column(-1.0, -3.0), column(-1.5, -2.0)
    assert kl_estimate(logps, reference, kind="k1").tolist() == [0.5, -1.0]
    assert kl_estimate(logps, reference, kind="k2").tolist() == [0.125, 0.5]
    expected = [math.exp(-0.5) - 1 + 0.5, math.e - 2]
    assert kl_estimate(logps, reference, kind="k3").tolist() == pytest.approx(expected)


@given(logp, logp)
def test_k3_is_never_negative_and_zero_only_where_both_agree(one: float, other: float) -> None:
    found = kl_estimate(column(one), column(other), kind="k3").item()
    assert found >= -1e-12
    assert (found > 1e-12) >= (abs(one - other) > 1e-4)


def test_the_means_of_k1_and_k3_are_the_exact_kl_and_that_of_k2_is_not() -> None:
    p, q = column(0.7, 0.2, 0.1), column(0.3, 0.3, 0.4)
    exact = (p * (p / q).log()).sum()
    means = {kind: (p * kl_estimate(p.log(), q.log(), kind=kind)).sum() for kind in ("k1", "k2", "k3")}
    torch.testing.assert_close(means["k1"], exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(means["k3"], exact, rtol=1e-12, atol=0)
    assert abs(means["k2"] - exact) > 0.005


def test_in_the_loss_k1_teaches_nothing_while_k2_teaches_the_kl() -> None:
    logits, q = column(1.0, -0.3, 0.2).requires_grad_(), column(0.3, 0.3, 0.4)

    def gradient(loss: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(loss(logits.log_softmax(0)), logits)[0]

    p = logits.detach().softmax(0)
    exact = gradient(lambda logps: (logps.exp() * (logps - q.log())).sum())
    expected = {k: gradient(lambda x, k=k: (p * kl_estimate(x, q.log(), kind=k)).sum()) for k in ("k1", "k2", "k3")}
    torch.testing.assert_close(expected["k1"], torch.zeros_like(exact), rtol=0, atol=1e-12)
    torch.testing.assert_close(expected["k2"], exact, rtol=1e-9, atol=1e-12)
    # k3's is that of KL(reference || policy): p - q with respect to the logits
    torch.testing.assert_close(expected["k3"], p - q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("difference", [-1e4, -50.0, 50.0, 1e4])
def test_extreme_ratios_stay_finite_and_never_pull_the_wrong_way(kind: str, difference: float) -> None:
    logps = torch.tensor([difference], dtype=torch.float32, requires_grad=True)
    found = kl_estimate(logps, torch.zeros(1), kind=kind)  # type: ignore[arg-type]
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert logps.grad is not None
    if kind != "k1":
        # descent may only bring the policy nearer to the reference
        assert logps.grad.item() * difference >= 0


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_gradients_of_kl_estimates_equal_finite_differences(kind: str) -> None:
    logps, reference = column(-1, -3, -0.1).requires_grad_(), column(-2, -1, -0.1)
    assert torch.autograd.gradcheck(lambda x: kl_estimate(x, reference, kind=kind), logps)  # type: ignore[arg-type]


def test_an_unknown_kl_estimate_is_refused() -> None:
    with pytest.raises(ValueError, match="k1, k2, k3, got 'k4'"):
        kl_estimate(column(0), column(0), kind="k4")  # type: ignore[arg-type]


def test_importance_weights_are_ratios_up_to_the_cap_without_a_gradient() -> None:
    logps = column(0.2, 0.9, 0.5).log().requires_grad_()
    found = importance_weights(logps, column(0.4, 0.3, 0.5).log(), most=2.0)
    assert found.tolist() == pytest.approx([0.5, 2.0, 1.0])
    assert not found.requires_grad
    with pytest.raises(ValueError, match=r"at least 1, got 0\.5"):
        importance_weights(logps, logps, most=0.5)


# a policy over answers of two tokens out of three: all nine can be enumerated, with a reward each
REWARD = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [2.0, 0.3, -0.7]], dtype=torch.float64)
Tables = tuple[Tensor, Tensor]
"""Logits of the first token (3,), and of the second after each first (3, 3)."""


def tables(seed: int) -> Tables:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(3, generator=made).double(), torch.randn(3, 3, generator=made).double()


def logps_of(answer: tuple[int, int], policy: Tables) -> Tensor:
    a, b = answer
    return torch.stack([policy[0].log_softmax(0)[a], policy[1][a].log_softmax(0)[b]])


def learned(now: Tables, writer: Tables, weigh: Callable[[Tensor, Tensor], Tensor | float]) -> Tensor:
    """Expected gradient of the weighted loss over answers of a writer."""
    parameters = (now[0].clone().requires_grad_(), now[1].clone().requires_grad_())
    total = torch.zeros((), dtype=torch.float64)
    for answer in itertools.product(range(3), range(3)):
        logps, written = logps_of(answer, parameters), logps_of(answer, writer)
        loss, _ = ppo_policy_loss(logps, logps.detach(), REWARD[answer].expand(2))
        total = total + written.sum().exp() * (loss * weigh(logps, written)).sum()
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(total, parameters)])


def exact_gradient(now: Tables) -> Tensor:
    """Of minus the expected reward, summed over all answers."""
    parameters = (now[0].clone().requires_grad_(), now[1].clone().requires_grad_())
    joint = parameters[0].softmax(0)[:, None] * parameters[1].softmax(1)
    gradients = torch.autograd.grad(-(joint * REWARD).sum(), parameters)
    return torch.cat([gradient.flatten() for gradient in gradients])


def per_token(logps: Tensor, written: Tensor) -> Tensor:
    return importance_weights(logps, written, most=1e9)


def per_answer(logps: Tensor, written: Tensor) -> Tensor:
    return importance_weights(logps, written, most=1e9, answer_N=torch.zeros(2, dtype=torch.long))


def test_answers_of_an_older_policy_weighted_as_a_whole_have_the_gradient_of_fresh_ones() -> None:
    now, older = tables(0), tables(1)
    exact = exact_gradient(now)
    torch.testing.assert_close(learned(now, now, lambda *_: 1.0), exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(learned(now, older, per_answer), exact, rtol=1e-12, atol=1e-12)
    for biased in (per_token, lambda *_: 1.0):
        assert (learned(now, older, biased) - exact).norm() > 0.1 * exact.norm()


def test_weights_of_tokens_are_exact_where_the_rest_of_the_answer_is_the_policys_own() -> None:
    now, older = tables(0), tables(1)
    exact = exact_gradient(now)
    first, second = learned(now, (older[0], now[1]), per_token)[:3], learned(now, (now[0], older[1]), per_token)[3:]
    torch.testing.assert_close(torch.cat([first, second]), exact, rtol=1e-12, atol=1e-12)


def test_the_weight_of_an_answer_is_the_ratio_of_all_its_tokens_up_to_the_cap() -> None:
    logps, written = column(0.2, 0.9, 0.5).log(), column(0.4, 0.3, 0.1).log()
    found = importance_weights(logps, written, most=4.0, answer_N=torch.tensor([0, 0, 1]))
    assert found.tolist() == pytest.approx([1.5, 1.5, 4.0])
