"""Draws follow the filtered distribution and depend on nothing but their own seed and prompt."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from raysafe.models.generate.sampling import choose, draw, row_uniforms

LOGITS_V = torch.tensor([1.0, -0.5, 2.0, 0.3, 0.0])
DRAWS = 20_000


def counts(**settings: float) -> torch.Tensor:
    """How often each token is drawn with uniforms from one generator."""
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    uniforms_B = torch.rand(DRAWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens_B = choose(LOGITS_V.expand(DRAWS, -1), uniforms_B, **{**defaults, **settings})
    return torch.bincount(tokens_B, minlength=len(LOGITS_V))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"temperature": 0.5}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [0, 2]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        # probabilities in order: 0.56, 0.21, 0.10, 0.08, 0.05 for tokens 2, 0, 3, 4, 1
        ({"top_p": 0.7}, [0, 2]),
        ({"top_p": 0.8}, [0, 2, 3]),
        # of the three likeliest, token 3 begins at 0.88 of the mass
        ({"top_p": 0.85, "top_k": 3}, [0, 2]),
    ],
)
def test_draws_follow_the_filtered_distribution(settings: dict, kept: list[int]) -> None:
    expected_V = torch.zeros(len(LOGITS_V), dtype=torch.float64)
    expected_V[kept] = (LOGITS_V[kept].double() / settings.get("temperature", 1.0)).softmax(-1)
    drawn_V = counts(**settings)
    assert drawn_V[expected_V == 0].sum() == 0
    test = stats.chisquare(drawn_V[kept].numpy(), (expected_V[kept] * DRAWS).numpy())
    assert test.pvalue > 1e-4


def test_temperature_zero_takes_the_likeliest() -> None:
    assert choose(LOGITS_V[None], None, temperature=0, top_k=0, top_p=1).tolist() == [2]


def test_tiny_top_p_takes_the_likeliest() -> None:
    assert counts(top_p=1e-9)[2] == DRAWS


@pytest.mark.parametrize("columns", [5, 64, 259, 2000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_invert_the_distribution_function_of_a_float64_sum_over_all_columns(
    columns: int, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(columns)
    logits_BV = 4 * torch.randn(3000, columns, generator=generator)
    logits_BV[:, columns // 2] = -torch.inf
    uniforms_B = torch.rand(3000, generator=generator, dtype=torch.float64)
    cumulative_BV = (logits_BV.double() / temperature).softmax(-1).cumsum(-1)
    tokens_B, logps_B = draw(logits_BV, uniforms_B, temperature=temperature, top_k=0, top_p=1)
    # a float32 weight moves a boundary by some 1e-7: a uniform that close to one may fall on either side
    above_B = cumulative_BV.gather(-1, tokens_B[:, None]).squeeze(-1)
    below_B = torch.cat((torch.zeros(3000, 1).double(), cumulative_BV), -1).gather(-1, tokens_B[:, None]).squeeze(-1)
    assert ((below_B - 1e-6 <= uniforms_B) & (uniforms_B < above_B + 1e-6)).all()
    assert (tokens_B != columns // 2).all()
    expected_B = logits_BV.double().log_softmax(-1).gather(-1, tokens_B[:, None]).squeeze(-1)
    torch.testing.assert_close(logps_B.double(), expected_B, rtol=1e-6, atol=2e-6)


def test_extreme_uniforms_stay_within_the_kept_tokens() -> None:
    extremes_B = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    logits_BV = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    assert choose(logits_BV, extremes_B, temperature=1, top_k=0, top_p=1).tolist() == [1, 2]


def test_extreme_uniforms_never_draw_what_has_no_probability() -> None:
    logits_V = torch.full((200,), -torch.inf)
    logits_V[[3, 70, 130]] = torch.tensor([0.1, 0.2, 0.7]).log()
    extremes_B = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits_V.expand(2, -1), extremes_B, temperature=1, top_k=0, top_p=1).tolist() == [3, 130]


def test_uniforms_differ_by_seed_prompt_occurrence_and_sample_only() -> None:
    base = {"seed": 1, "occurrence": 0, "sample": 0}
    first = row_uniforms((5, 6), 4, **base)
    assert torch.equal(row_uniforms((5, 6), 9, **base)[:4], first)
    assert first.min() >= 0 and first.max() < 1
    for change in ({"seed": 2}, {"occurrence": 1}, {"sample": 1}):
        assert not torch.equal(row_uniforms((5, 6), 4, **{**base, **change}), first)
    assert not torch.equal(row_uniforms((5, 7), 4, **base), first)
