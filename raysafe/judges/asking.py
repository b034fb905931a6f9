"""Asking a judge for short answers that can be read, and again for those that can't."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raysafe.errors import ConfigError
from raysafe.judges.judge import Judge, Messages

ANSWER_TOKENS = 16
RETRY_TEMPERATURE = 0.7
"""A judge that wrote something unreadable at temperature 0 would write it again."""


async def ask(
    judge: Judge, questions: Sequence[Messages], read: Callable[[str], float | None], *, asks: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(value, or NaN where `asks` answers in turn couldn't be read; how many couldn't) of each question, (N,) each."""
    if asks < 1:
        raise ConfigError(f"asks must be at least 1, got {asks}")
    values_N, failures_N = np.full(len(questions), np.nan), np.zeros(len(questions), dtype=int)
    open_N = list(range(len(questions)))
    for attempt in range(asks):
        if not open_N:
            break
        texts = await judge.generate(
            [questions[place] for place in open_N],
            max_tokens=ANSWER_TOKENS,
            temperature=RETRY_TEMPERATURE if attempt else 0.0,
            seed=seed + attempt,
        )
        values = [read(text) for text in texts]
        values_N[open_N] = [np.nan if value is None else value for value in values]
        open_N = [place for place, value in zip(open_N, values, strict=True) if value is None]
        failures_N[open_N] += 1
    return values_N, failures_N
