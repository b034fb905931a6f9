"""Judging in both orders."""

import random

import pytest

from raysafe.errors import ConfigError
from raysafe.evaluation.win_rate import figures, function_judge, swap_consistent

PROMPTS = [[{"role": "user", "content": f"question {i}"}] for i in range(400)]


def by_metric(scores, consistent):
    return {figure.metric: figure for figure in figures(scores, consistent)}


def test_a_better_answer_wins_in_both_orders():
    judge = function_judge(lambda prompt, first, second: float(len(first) > len(second)), "longer")
    scores, consistent = swap_consistent(judge, PROMPTS[:2], ["long answer", "no"], ["no", "long answer"])
    assert scores == [1.0, 0.0] and consistent == [True, True]


def test_a_judge_that_likes_the_first_place_only_ties():
    judge = function_judge(lambda prompt, first, second: 1.0, "first")
    found = by_metric(*swap_consistent(judge, PROMPTS, ["a"] * 400, ["b"] * 400))
    assert found["win_rate"].value == 0.5 and found["inconsistent_rate"].value == 1.0


def test_a_random_judge_finds_no_winner():
    rng = random.Random(0)
    judge = function_judge(lambda prompt, first, second: rng.random(), "random")
    found = by_metric(*swap_consistent(judge, PROMPTS, ["a"] * 400, ["b"] * 400))
    assert found["win_rate"].interval[0] < 0.5 < found["win_rate"].interval[1]
    assert found["p_value"].value > 0.01


def test_ties_count_one_half():
    found = by_metric([1.0, 0.5, 0.0, 1.0], [True] * 4)
    assert found["win_rate"].value == 0.625


def test_a_judge_out_of_range_is_refused():
    judge = function_judge(lambda prompt, first, second: 3, "mine:judge")
    with pytest.raises(ConfigError, match="mine:judge returned 3"):
        judge(PROMPTS[:1], ["a"], ["b"])
