"""VADER's lexicon as a score of answers (Hutto and Gilbert 2014): `--gold jobs.tasks.vader:score`.

Words and rules that people rated, no trained model: a reward model's errors are not its own. Needs vaderSentiment.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def score(prompt: list[dict[str, str]], answer: str, label: str | None) -> float:
    """How positive the answer is, from -1 to 1."""
    scores: dict[str, Any] = _analyzer().polarity_scores(answer)
    return float(scores["compound"])
