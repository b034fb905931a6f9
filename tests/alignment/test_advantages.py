"""GAE, group baselines, whitening and token rewards against values worked by hand and direct sums."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysafe.alignment.advantages import adapted_kl_coefficient, gae, group_advantages, token_rewards, whiten
from tests.examples import examples

numbers = st.floats(-10, 10)
shares = st.floats(0, 1)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_gae_of_three_tokens_by_hand() -> None:
    # deltas: 1 + 0.5 * 2 - 1 = 1, 0 + 0.5 * 4 - 2 = 0, 3 - 4 = -1; A3 = -1, A2 = 0 - 0.25 = -0.25, A1 = 1 - 0.0625
    advantages, returns = gae(rows([1, 0, 3]), rows([1, 2, 4]), rows([1, 1, 1]), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[0.9375, -0.25, -1.0]]
    assert returns.tolist() == [[1.9375, 1.75, 3.0]]


def test_gae_skips_a_gap_and_ends_at_the_last_token_of_the_mask() -> None:
    # tokens 0 and 2 alone: deltas 1 + 0.5 * 4 - 1 = 2 and 3 - 4 = -1; A0 = 2 + 0.25 * -1
    advantages, returns = gae(rows([1, 9, 3, 9]), rows([1, 9, 4, 9]), rows([1, 0, 1, 0]), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[1.75, 0.0, -1.0, 0.0]]
    assert returns.tolist() == [[2.75, 0.0, 3.0, 0.0]]


tokens = st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=9)


@settings(max_examples=examples(40))
@given(tokens, shares, shares)
def test_gae_is_the_discounted_sum_of_deltas_over_the_tokens_of_the_mask(
    row: list[tuple[float, float, bool]], gamma: float, lam: float
) -> None:
    rewards, values, mask = zip(*row, strict=True)
    advantages, returns = gae(rows(list(rewards)), rows(list(values)), torch.tensor([mask]), gamma=gamma, lam=lam)
    inside = [t for t, on in enumerate(mask) if on]
    expected = [0.0] * len(row)
    for start, t in enumerate(inside):
        for distance, u in enumerate(inside[start:]):
            later = inside[start + distance + 1 :]
            delta = rewards[u] + (gamma * values[later[0]] if later else 0.0) - values[u]
            expected[t] += (gamma * lam) ** distance * delta
    assert advantages[0].tolist() == pytest.approx(expected, abs=1e-9)
    assert returns[0].tolist() == pytest.approx(
        [expected[t] + values[t] if mask[t] else 0.0 for t in range(len(row))], abs=1e-9
    )


@settings(max_examples=examples(40))
@given(tokens, shares, shares)
def test_gae_with_a_gap_equals_gae_without_the_gaps_tokens(
    row: list[tuple[float, float, bool]], gamma: float, lam: float
) -> None:
    kept = [(reward, value, True) for reward, value, on in row if on]
    if not kept:
        return
    columns = [torch.tensor([column]).double() for column in zip(*row, strict=True)]
    closed = [torch.tensor([column]).double() for column in zip(*kept, strict=True)]
    mask = columns[2].bool()
    for found, expected in zip(gae(*columns, gamma=gamma, lam=lam), gae(*closed, gamma=gamma, lam=lam), strict=True):
        torch.testing.assert_close(found[mask], expected[0], rtol=0, atol=1e-12)
        assert not found[~mask].any()


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_gae_without_discounts_is_the_reward_to_go_less_the_value(row: list[tuple[float, float]]) -> None:
    rewards, values = (rows(list(column)) for column in zip(*row, strict=True))
    advantages, returns = gae(rewards, values, torch.ones_like(rewards), gamma=1.0, lam=1.0)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(advantages, to_go - values, rtol=0, atol=1e-9)
    torch.testing.assert_close(returns, to_go, rtol=0, atol=1e-9)


def test_gae_at_lambda_0_is_the_one_step_error() -> None:
    advantages, _ = gae(rows([1, 2]), rows([3, 5]), rows([1, 1]), gamma=0.9, lam=0.0)
    assert advantages.tolist() == [pytest.approx([1 + 0.9 * 5 - 3, 2 - 5])]


@pytest.mark.parametrize("outside", [math.nan, math.inf, 1e30])
def test_what_stands_outside_the_mask_never_reaches_gae(outside: float) -> None:
    clean = gae(rows([1, 0, 3]), rows([1, 0, 4]), rows([1, 0, 1]), gamma=0.9, lam=0.8)
    soiled = gae(rows([1, outside, 3]), rows([1, outside, 4]), rows([1, 0, 1]), gamma=0.9, lam=0.8)
    for found, expected in zip(soiled, clean, strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(("gamma", "lam", "name"), [(1.1, 1.0, "gamma"), (1.0, -0.1, "lam"), (math.nan, 1.0, "gamma")])
def test_a_discount_outside_of_0_to_1_is_refused(gamma: float, lam: float, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
        gae(rows([1]), rows([1]), rows([1]), gamma=gamma, lam=lam)


# group 7: rewards 1, 2, 6 (mean 3, squares 4 + 1 + 9 = 14, unbiased variance 7); group 2: 5, 9 (mean 7, variance 8)
REWARDS, GROUPS = torch.tensor([1.0, 5, 2, 9, 6]).double(), torch.tensor([7, 2, 7, 2, 7])


def test_grpo_divides_by_the_unbiased_deviation_of_the_group_and_eps() -> None:
    found = group_advantages(REWARDS, GROUPS, kind="grpo", eps=0.1)
    a, b = math.sqrt(7) + 0.1, math.sqrt(8) + 0.1
    assert found.tolist() == pytest.approx([-2 / a, -2 / b, -1 / a, 2 / b, 3 / a])


def test_dr_grpo_is_the_reward_less_the_mean_of_the_group() -> None:
    assert group_advantages(REWARDS, GROUPS, kind="dr_grpo").tolist() == pytest.approx([-2, -2, -1, 2, 3])


def test_rloo_is_the_reward_less_the_mean_of_the_others() -> None:
    found = group_advantages(REWARDS, GROUPS, kind="rloo")
    assert found.tolist() == pytest.approx([1 - 4, 5 - 9, 2 - 3.5, 9 - 5, 6 - 1.5])


groups = st.lists(st.tuples(numbers, st.integers(0, 3)), min_size=2, max_size=12).map(
    lambda row: [(r, g) for r, g in row if sum(g == other for _, other in row) > 1]
)


@settings(max_examples=examples(40))
@given(groups.filter(bool), st.sampled_from(["grpo", "dr_grpo", "rloo"]), numbers)
def test_a_shift_of_all_rewards_changes_no_advantage(row: list[tuple[float, int]], kind: str, shift: float) -> None:
    rewards, ids = torch.tensor([r for r, _ in row]).double(), torch.tensor([g for _, g in row])
    shifted = group_advantages(rewards + shift, ids, kind=kind, eps=1e-2)  # type: ignore[arg-type]
    plain = group_advantages(rewards, ids, kind=kind, eps=1e-2)  # type: ignore[arg-type]
    torch.testing.assert_close(shifted, plain, rtol=0, atol=1e-9)


@settings(max_examples=examples(40))
@given(groups.filter(bool), st.permutations(range(12)))
def test_the_order_of_the_answers_does_not_matter(row: list[tuple[float, int]], order: list[int]) -> None:
    order = [place for place in order if place < len(row)]
    rewards, ids = torch.tensor([r for r, _ in row]).double(), torch.tensor([g for _, g in row])
    mixed = group_advantages(rewards[order], ids[order], kind="rloo")
    torch.testing.assert_close(mixed, group_advantages(rewards, ids, kind="rloo")[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "factor"), [("grpo", 1.0), ("dr_grpo", 7.0), ("rloo", 7.0)])
def test_only_grpo_forgets_the_scale_of_the_rewards(kind: str, factor: float) -> None:
    plain = group_advantages(REWARDS, GROUPS, kind=kind, eps=1e-14)  # type: ignore[arg-type]
    scaled = group_advantages(7 * REWARDS, GROUPS, kind=kind, eps=1e-14)  # type: ignore[arg-type]
    torch.testing.assert_close(scaled, factor * plain, rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
def test_answers_that_scored_alike_have_no_advantage(kind: str) -> None:
    found = group_advantages(torch.full((4,), 0.3), torch.zeros(4, dtype=torch.long), kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.zeros(4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
def test_a_group_of_one_is_refused_by_its_id(kind: str) -> None:
    with pytest.raises(ValueError, match="group 5 has one answer"):
        group_advantages(torch.tensor([1.0, 2, 3]), torch.tensor([1, 5, 1]), kind=kind)  # type: ignore[arg-type]


def test_an_unknown_kind_of_group_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="grpo, dr_grpo, rloo, got 'remax'"):
        group_advantages(REWARDS, GROUPS, kind="remax")  # type: ignore[arg-type]


def test_whitening_uses_the_unbiased_deviation_of_what_is_inside() -> None:
    # inside: 1, 3, 8: mean 4, squares 9 + 1 + 16 = 26, unbiased variance 13
    values, mask = rows([1, 3, 99], [8, -99, 99]), rows([1, 1, 0], [1, 0, 0])
    deviation = math.sqrt(13)
    expected = [[-3 / deviation, -1 / deviation, 0], [4 / deviation, 0, 0]]
    torch.testing.assert_close(whiten(values, mask), torch.tensor(expected).double(), rtol=1e-6, atol=0)
    kept = torch.tensor([[4 - 3 / deviation, 4 - 1 / deviation, 0], [4 + 4 / deviation, 0, 0]]).double()
    torch.testing.assert_close(whiten(values, mask, shift_mean=False), kept, rtol=1e-6, atol=0)


def test_whitening_a_single_value_stays_finite() -> None:
    assert whiten(rows([3.0, 7.0]), rows([1, 0])).tolist() == [[0.0, 0.0]]


def test_the_score_comes_at_the_last_token_of_the_answer_and_never_on_padding() -> None:
    mask = rows([1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0])
    kl = rows([0.5, 1, 2, 99], [1, 99, 3, 99], [99, 99, 99, 99])
    found = token_rewards(torch.tensor([10.0, 20, 30]).double(), kl, mask, kl_coefficient=0.1)
    expected = [[-0.05, -0.1, 10 - 0.2, 0], [-0.1, 0, 20 - 0.3, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.1, 1.0), (0.11, 1.01), (0.095, 0.995), (0.5, 1.02), (0.0, 0.98), (-1.0, 0.98)]
)
def test_the_kl_coefficient_follows_the_error_by_at_most_a_fifth(kl: float, factor: float) -> None:
    # 100 answers of a horizon of 1000: a tenth of the error, which is cut to 0.2 either way
    found = adapted_kl_coefficient(0.3, kl, target=0.1, samples=100, horizon=1000)
    assert found == pytest.approx(0.3 * factor)
