"""A judge as a reward: scores of answers in [0, 1], synchronously. A judge that can't be read is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raysafe.errors import ModelError
from raysafe.judges.blocking import wait_for
from raysafe.judges.compare import compare_pairs
from raysafe.judges.constitution import Constitution, default_constitution
from raysafe.judges.judge import AnyMethod, Judge, Messages, choose_method
from raysafe.judges.rubric import score_answers
from raysafe.judges.wording import Scale

Baseline = Callable[[Sequence[Messages]], Sequence[str]]
"""The answers that each prompt's answer is compared with."""


class JudgeReward:
    """(prompts, answers) -> rewards (N,): the weighted mean principle score / 10.

    With a baseline it is the preference for the answer over the baseline's, asked in both orders.
    """

    def __init__(
        self,
        judge: Judge,
        constitution: Constitution | None = None,
        *,
        baseline: Baseline | None = None,
        method: AnyMethod = "auto",
        scale: Scale = "numbers",
        asks: int = 3,
        seed: int = 0,
    ) -> None:
        """Raises ConfigError where the judge can't do what `method` asks."""
        choose_method(judge, method)
        self.judge, self.constitution, self.baseline = judge, constitution or default_constitution(), baseline
        self._method: AnyMethod = method
        self._scale: Scale = scale
        self._asks, self._seed = asks, seed

    def __call__(self, prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
        """Rewards in [0, 1], (N,), float64; raises ModelError where an answer couldn't be judged."""
        if not len(prompts):
            return np.zeros(0)
        rewards_N = self._scores(prompts, answers) if self.baseline is None else self._preferences(prompts, answers)
        unread = np.flatnonzero(np.isnan(rewards_N))
        if len(unread):
            raise ModelError(
                f"the judge {self.judge.name} gave no readable verdict on {len(unread)} of {len(rewards_N)} answers "
                f"(first: answer {unread[0]}), each asked {self._asks} times: use a judge that follows instructions"
            )
        return np.clip(rewards_N, 0.0, 1.0)

    def _scores(self, prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
        scores = wait_for(
            score_answers(
                self.judge, prompts, answers, self.constitution,
                method=self._method, scale=self._scale, asks=self._asks, seed=self._seed,
            )
        )  # fmt: skip
        return np.array([score.mean for score in scores]) / 10

    def _preferences(self, prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
        assert self.baseline is not None
        others = self.baseline(prompts)
        verdicts = wait_for(
            compare_pairs(
                self.judge, prompts, answers, others, self.constitution,
                method=self._method, asks=self._asks, seed=self._seed,
            )
        )  # fmt: skip
        return np.array([verdict.preference for verdict in verdicts])
