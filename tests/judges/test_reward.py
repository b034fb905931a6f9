"""A judge as a reward: in [0, 1], right from sync code wherever it runs, and an error where the judge fails."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from raysafe.errors import ConfigError, ModelError
from raysafe.judges.reward import JudgeReward
from raysafe.judges.scripted import ScriptedJudge
from tests.judges.known import PROMPT, biased, by_length, scoring


def test_the_reward_is_a_tenth_of_the_mean_score() -> None:
    reward = JudgeReward(scoring(lambda principle, answer: "10" if principle == "honesty" else answer))
    np.testing.assert_allclose(reward([PROMPT] * 2, ["2", "10"]), [(7 * 2 + 10) / 80, 1.0])


def test_with_a_baseline_it_is_the_preference_free_of_position_bias() -> None:
    reward = JudgeReward(biased(0.07), baseline=lambda prompts: ["quality 0.5 baseline"] * len(prompts))
    np.testing.assert_allclose(
        reward([PROMPT] * 3, ["quality 0.1 x", "quality 0.5 y", "quality 0.7 z"]), [0.3, 0.5, 0.6]
    )


def test_an_unreadable_judge_is_an_error_not_a_zero() -> None:
    reward = JudgeReward(scoring(lambda principle, answer: "5" if answer == "fine" else "?"), asks=2)
    with pytest.raises(
        ModelError, match=r"no readable verdict on 1 of 2 answers \(first: answer 1\), each asked 2 times"
    ):
        reward([PROMPT] * 2, ["fine", "odd"])


def test_a_failing_judge_fails_the_reward() -> None:
    def broken(messages) -> str:
        raise ModelError("the judge is gone")

    with pytest.raises(ModelError, match="the judge is gone"):
        JudgeReward(ScriptedJudge(broken))([PROMPT], ["x"])


def test_a_method_that_the_judge_lacks_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="doesn't give log-probabilities"):
        JudgeReward(ScriptedJudge(by_length), method="choice_logprobs")


def test_it_may_be_called_inside_a_running_event_loop() -> None:
    async def work() -> np.ndarray:
        return JudgeReward(ScriptedJudge(by_length))([PROMPT], ["sev en!"])

    assert asyncio.run(work()) == pytest.approx(0.7)


def test_no_answers_are_no_rewards() -> None:
    reward = JudgeReward(ScriptedJudge(by_length))([], [])
    assert reward.shape == (0,) and not math.isnan(reward.sum())
