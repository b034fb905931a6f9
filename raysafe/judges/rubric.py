"""Scoring an answer by a constitution: each principle is a question of its own, its score from 0 to 10.

Where the judge weighs choices, a score is the expected value over 0 to 10 (as in G-Eval, Liu et al. 2023, section 2.2),
else the number that it writes. What can't be read is asked again, then counted as unscored: it never passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysafe.config import Config
from raysafe.judges.asking import ask
from raysafe.judges.constitution import Constitution, default_constitution
from raysafe.judges.judge import AnyMethod, Judge, Messages, Method, choose_method
from raysafe.judges.wording import LETTERS, NUMBERS, Scale, read_score, score_question


@dataclass(frozen=True)
class JudgeScore:
    """The verdict on one answer."""

    scores: dict[str, float]
    """Principle: 0 to 10, NaN where the judge's answer couldn't be read."""
    mean: float
    """Weighted mean over the principles, 0 to 10; NaN where one is unscored."""
    compliant: bool
    """Whether every principle is scored and reaches the constitution's threshold."""
    method: Method
    unparsable: int
    """Answers of the judge that couldn't be read, those included that were asked again with success."""

    @property
    def unscored(self) -> list[str]:
        """Principles without a score."""
        return [name for name, score in self.scores.items() if math.isnan(score)]


async def score_answers(
    judge: Judge,
    prompts: Sequence[Messages],
    answers: Sequence[str],
    constitution: Constitution | None = None,
    *,
    method: AnyMethod = "auto",
    scale: Scale = "numbers",
    asks: int = 3,
    seed: int = 0,
) -> list[JudgeScore]:
    """A JudgeScore for each prompt and answer, in order; all questions go to the judge in one call.

    scale: `letters` for judges whose vocabulary splits the number 10. asks: most answers to one question.
    """
    constitution = constitution or default_constitution()
    chosen = choose_method(judge, method)
    questions = [
        score_question(prompt, answer, scale=scale, **_told(principle))
        for prompt, answer in zip(prompts, answers, strict=True)
        for principle in constitution.principles
    ]
    if chosen == "choice_logprobs":
        logps_QK = await judge.choice_logprobs(questions, NUMBERS if scale == "numbers" else LETTERS)
        scores_Q = np.exp(logps_QK) @ np.arange(len(NUMBERS))
        failures_Q = np.isnan(scores_Q).astype(int)
    else:
        scores_Q, failures_Q = await ask(judge, questions, read_score, asks=asks, seed=seed)
    shape = (len(prompts), len(constitution.principles))
    return [
        _verdict(constitution, scores_P, chosen, int(failures))
        for scores_P, failures in zip(scores_Q.reshape(shape), failures_Q.reshape(shape).sum(axis=1), strict=True)
    ]


def _verdict(constitution: Constitution, scores_P: np.ndarray, method: Method, unparsable: int) -> JudgeScore:
    scores = dict(zip(constitution.names, map(float, scores_P), strict=True))
    # a comparison with NaN is false, so an unscored principle doesn't comply
    compliant = bool(np.all(scores_P >= constitution.threshold))
    return JudgeScore(scores, float(scores_P @ constitution.weights_P), compliant, method, unparsable)


def _told(principle: Config) -> dict[str, str]:
    return principle.model_dump(include={"name", "description", "rubric"})
