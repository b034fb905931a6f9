"""The watch: reward and gold part beyond chance, limits are broken by their sentences, variety by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.alignment.watch import WatchConfig, distinct, parting, rows_of, sample_figures, standard_error
from raysafe.errors import ConfigError
from tests.alignment.online_parts import make_samples


def history(*rows: tuple[float, float], error: float = 0.1) -> list[dict[str, float]]:
    """Validations of (reward, gold)."""
    return [
        {"step": 10.0 * i, "reward": reward, "gold": gold, "gold_error": error} for i, (reward, gold) in enumerate(rows)
    ]


def test_reward_and_gold_part_where_gold_fell_by_more_than_two_standard_errors_of_the_difference() -> None:
    # the difference of two means with an error of 0.1 each has one of 0.1414
    sentence = parting(history((1, 0.5), (2, 0.9), (3, 0.6)))
    assert sentence is not None
    assert "the reward rose from 2 to 3 since step 10 while the gold score fell from 0.9 to 0.6" in sentence
    assert sentence.endswith("raise kl_coefficient, or train a reward model on such answers")
    assert parting(history((1, 0.5), (2, 0.9), (3, 0.62))) is None


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 0.9)],
        [(1, 0.5), (2, 0.9)],
        [(1, 0.2), (3, 0.9), (2, 0.2)],
        [(1, 0.9), (2, 0.8), (3, 0.75)],
    ],
    ids=["one validation", "both rise", "both fall", "noise explains it"],
)
def test_no_warning_without_a_parting(rows: list[tuple[float, float]]) -> None:
    assert parting(history(*rows)) is None


def test_a_fall_is_surer_where_the_gold_score_is_measured_better() -> None:
    rows = [(1, 0.9), (2, 0.8)]
    assert parting(history(*rows, error=0.1)) is None
    assert parting(history(*rows, error=0.02)) is not None


def test_without_a_gold_score_nothing_parts() -> None:
    assert parting([{"step": 0, "reward": 1.0}, {"step": 1, "reward": 2.0}]) is None
    assert parting([]) is None


def test_gold_scores_that_only_wander_part_as_seldom_as_two_standard_errors_say() -> None:
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(2000):
        gold = rng.normal(0.0, 0.1, 2)
        warned += parting(history((1, gold[0]), (2, gold[1]))) is not None
    # one-sided, beyond two standard errors: 2.3%
    assert 0.01 < warned / 2000 < 0.04


START = {"kl": 0.0, "distinct_2": 0.8, "perplexity": 10.0}


@pytest.mark.parametrize(
    ("limit", "good", "bad", "told"),
    [
        ({"max_kl": 0.3}, {"kl": 0.3}, {"kl": 0.31}, "KL is 0.310 nats a token, watch.max_kl is 0.3"),
        (
            {"min_distinct": 0.9},
            {"distinct_2": 0.73},
            {"distinct_2": 0.6},
            "distinct_2 is 0.75 times the starting model's, watch.min_distinct is 0.9",
        ),
        (
            {"max_perplexity": 1.5},
            {"perplexity": 14.9},
            {"perplexity": 20.0},
            "perplexity is 2.00 times the starting model's, watch.max_perplexity is 1.5",
        ),
    ],
)
def test_a_broken_limit_is_told_with_what_was_found(
    limit: dict[str, float], good: dict[str, float], bad: dict[str, float], told: str
) -> None:
    watch = WatchConfig(**limit)  # type: ignore[arg-type]
    assert watch.broken(START | good, START) == []
    assert watch.broken(START | bad, START) == [told]
    assert WatchConfig().broken(START | bad, START) == []


def test_all_broken_limits_are_told_and_the_start_breaks_none() -> None:
    watch = WatchConfig(max_kl=0.1, min_distinct=1.0, max_perplexity=1.01)
    assert watch.broken(START, START) == []
    assert len(watch.broken({"kl": 1.0, "distinct_2": 0.1, "perplexity": 99.0}, START)) == 3


def test_a_limit_that_the_starting_model_breaks_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_perplexity"):
        WatchConfig(max_perplexity=0.9)


def test_distinct_by_hand() -> None:
    # pairs: 12 21 12 / 31: three kinds of four; nothing crosses from one answer to the next
    assert distinct([[1, 2, 1, 2], [3, 1], [7]], 2) == 0.75
    assert distinct([[1, 2, 1, 2], [3, 1], [7]], 1) == 4 / 7
    assert distinct([[1], []], 2) == 0.0


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=5), st.integers(1, 3))
def test_distinct_is_a_share_and_1_where_no_pair_comes_twice(answers: list[list[int]], n: int) -> None:
    assert 0 <= distinct(answers, n) <= 1
    assert distinct([list(range(9))], n) == 1.0


def test_the_figures_of_a_batch_by_hand() -> None:
    samples = make_samples(2, 1)
    samples.answers = [np.array([5, 6, 5]), np.array([7])]
    samples.rollout_logps_N = np.array([-1.0, -2.0, -0.5, -0.5])
    samples.tokens["ref_logps"] = np.array([-1.5, -2.5, -1.0, -1.0])
    samples.scores["reward"], samples.complete_C = np.array([1.0, 3.0]), np.array([True, False])
    figures = sample_figures(samples)
    expected = {
        "reward": 2.0, "reward_std": 1.0, "kl": 0.5, "entropy": 1.0, "perplexity": math.exp(1.5),
        "distinct_1": 0.75, "distinct_2": 1.0, "length": 2.0, "complete": 0.5,
    }  # fmt: skip
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_the_standard_error_of_a_mean() -> None:
    assert standard_error(np.array([1.0, 2, 6])) == pytest.approx(math.sqrt(7 / 3))
    assert standard_error(np.array([4.0])) == 0.0


def test_rows_to_read_carry_prompt_answer_and_scores() -> None:
    samples = make_samples(2, 2)
    samples.scores = {"reward": np.array([1.0, 2, 3, 4])}
    prompts = [[{"role": "user", "content": name}] for name in ("one", "two")]
    assert rows_of(samples, prompts, 3) == [
        {"prompt": "one", "answer": "answer 0", "reward": 1.0},
        {"prompt": "one", "answer": "answer 1", "reward": 2.0},
        {"prompt": "two", "answer": "answer 2", "reward": 3.0},
    ]
