"""Judges whose truth is known, for the tests of all that uses a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raysafe.judges.judge import Messages
from raysafe.judges.scripted import ScriptedJudge
from raysafe.judges.wording import read_question

PROMPT = [{"role": "user", "content": "How do I bake bread?"}]


def quality(answer: str) -> float:
    """Of an answer that reads `quality 0.7 …`."""
    return float(answer.split()[1])


def biased(bias: float) -> ScriptedJudge:
    """Prefers A to B by their qualities' difference plus a bias for the answer shown first, as a probability."""

    def weigh(messages: Messages, choices: Sequence[str]) -> list[float]:
        first, second = map(quality, read_question(messages).answers)
        wins = 0.5 + (first - second) / 2 + bias
        return [{"A": wins, "B": 1 - wins}.get(choice, 0.0) for choice in choices]

    def answer(messages: Messages, seed: int) -> str:
        return "A" if np.random.default_rng(seed).random() < weigh(messages, "AB")[0] else "B"

    return ScriptedJudge(answer, weigh, name="biased")


def scoring(score: Callable[[str, str], str]) -> ScriptedJudge:
    """Writes score(principle, answer)."""

    def answer(messages: Messages) -> str:
        question = read_question(messages)
        return score(question.criterion, question.answers[0])

    return ScriptedJudge(answer, name="scoring")


def by_length(messages: Messages) -> str:
    """For specs: an answer's length is its score; a longer answer wins."""
    answers = read_question(messages).answers
    if len(answers) == 1:
        return str(min(len(answers[0]), 10))
    return "C" if len(answers[0]) == len(answers[1]) else "AB"[len(answers[0]) < len(answers[1])]
