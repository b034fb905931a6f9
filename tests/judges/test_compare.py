"""Comparisons: a planted position bias is measured and cancels; swapping the answers mirrors the preference."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given, strategies

from raysafe.errors import ModelError
from raysafe.evaluation.win_rate import function_judge, swap_consistent
from raysafe.judges.compare import PairVerdict, as_comparison, compare, compare_pairs, consistency_rate, position_bias
from raysafe.judges.scripted import ScriptedJudge
from tests.judges.known import PROMPT, biased, by_length, quality

QUALITIES = strategies.floats(0, 0.8).map(lambda q: f"quality {q:.3f} answer")


def pairs(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    draws = np.random.default_rng(seed).random((2, n)) * 0.8
    return tuple([f"quality {q:.3f} number {i}" for i, q in enumerate(row)] for row in draws)


def judged(judge: ScriptedJudge, n: int, **settings) -> list[PairVerdict]:
    first, second = pairs(n)
    return asyncio.run(compare_pairs(judge, [PROMPT] * n, first, second, **settings))


@pytest.mark.parametrize("bias", [-0.1, 0.0, 0.08])
def test_a_planted_bias_is_measured_exactly_and_cancels_where_choices_are_weighed(bias: float) -> None:
    verdicts, (first, second) = judged(biased(bias), 30), pairs(30)
    measured = position_bias(verdicts)
    assert measured.value == pytest.approx(bias, abs=1e-9) and measured.n == 30
    for verdict, one, other in zip(verdicts, first, second, strict=True):
        assert verdict.preference == pytest.approx(0.5 + (quality(one) - quality(other)) / 2)


def test_a_planted_bias_of_written_verdicts_lies_within_its_interval() -> None:
    verdicts, (first, second) = judged(biased(0.1), 600, method="generate"), pairs(600)
    measured = position_bias(verdicts)
    assert measured.low < 0.1 < measured.high
    assert measured.low > 0, "600 pairs tell a bias of 0.1 from none"
    truth = np.mean([0.5 + (quality(a) - quality(b)) / 2 for a, b in zip(first, second, strict=True)])
    assert np.mean([v.preference for v in verdicts]) == pytest.approx(truth, abs=0.05)


def test_the_interval_covers_the_planted_bias_in_95_of_100_trials() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        drawn = rng.normal(0.1, 0.2, 20)
        found = position_bias([PairVerdict(0.5, float(b), True, "generate", 0) for b in drawn])
        covered += found.low <= 0.1 <= found.high
    # the binomial's 99.9% range around 950
    assert 925 <= covered <= 973


@given(QUALITIES, QUALITIES, strategies.floats(-0.09, 0.09))
def test_swapping_the_answers_mirrors_the_preference(first: str, second: str, bias: float) -> None:
    one = asyncio.run(compare(biased(bias), PROMPT, first, second))
    other = asyncio.run(compare(biased(bias), PROMPT, second, first))
    assert one.preference + other.preference == pytest.approx(1)
    assert one.position_bias == pytest.approx(other.position_bias)
    assert 0 <= one.preference <= 1 and one.consistent == other.consistent


def test_a_judge_that_goes_by_place_alone_is_half_and_never_consistent() -> None:
    verdicts = judged(ScriptedJudge(lambda messages: "A"), 4)
    assert {v.preference for v in verdicts} == {0.5} and position_bias(verdicts).value == 0.5
    assert consistency_rate(verdicts) == 0


def test_a_judge_that_goes_by_the_answers_alone_is_always_consistent() -> None:
    verdicts = asyncio.run(
        compare_pairs(ScriptedJudge(by_length), [PROMPT] * 3, ["long one", "s", "tie"], ["short", "longer", "eit"])
    )
    assert [v.preference for v in verdicts] == [1, 0, 0.5]
    assert consistency_rate(verdicts) == 1 and position_bias(verdicts).value == 0


def test_an_unreadable_verdict_is_no_verdict() -> None:
    verdicts = judged(ScriptedJudge(lambda messages: "both are fine", name="vague"), 2, asks=2)
    assert all(math.isnan(v.preference) and v.unparsable == 4 and not v.consistent for v in verdicts)
    assert math.isnan(consistency_rate(verdicts))
    with pytest.raises(ModelError, match="no pair was judged"):
        position_bias(verdicts)


def test_a_judge_serves_the_win_rate_suite_which_finds_its_inconsistency() -> None:
    prompts, ours, theirs = [PROMPT] * 2, ["quality 0.5 x", "quality 0.31 x"], ["quality 0.2 y", "quality 0.3 y"]
    scores, consistent = swap_consistent(function_judge(as_comparison(biased(0.05)), "judge"), prompts, ours, theirs)
    assert scores == [1.0, 0.5] and consistent == [True, False]


def test_the_win_rate_suite_gets_an_error_for_an_unreadable_judge() -> None:
    with pytest.raises(ModelError, match="judge vague gave no readable verdict in 3 answers"):
        as_comparison(ScriptedJudge(lambda messages: "hm", name="vague"))(PROMPT, "a", "b")
