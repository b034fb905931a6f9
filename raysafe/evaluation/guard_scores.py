"""What a policy says of one text by itself: its decision, and the highest score that any of its guards gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raysafe.guards.guard import Exchange, Message, Stage
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.policy import Policy

Advance = Callable[[int], None]
NOT_OF_TEXT = ("rate", "capabilities")
"""Kinds of guards that judge a key's use, not its text: they are left out."""


@dataclass(frozen=True)
class Judged:
    """score: from 0 to 1; stopped: whether the policy as it stands blocks or holds it; failed: guards that failed."""

    score: float
    stopped: bool
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Judgements of several texts, in their order."""

    scores_N: np.ndarray
    stopped_N: np.ndarray
    failures: int


class Examiner:
    """A policy's guards of texts, at one stage. Every guard is asked, also after one that blocks."""

    def __init__(self, policy: Policy, stage: Stage = "input") -> None:
        left_out = {guard.name for guard in policy.guards if guard.kind in NOT_OF_TEXT}
        entries = [entry for entry in policy.build().entries if entry.guard.name not in left_out]
        self.stage: Stage = stage
        self._entries = Pipeline(entries).at(stage)
        self.guards = [entry.guard.name for entry in self._entries]

    def judge(self, text: str) -> Judged:
        """A guard that failed counts in the decision, as it would in service, and not in the score; one in shadow mode
        counts in neither."""
        messages = (Message("user", text),) if self.stage == "input" else ()
        exchange = Exchange("offline", "offline", "offline", messages, output=text)
        score, stopped, failed = 0.0, False, []
        for entry in self._entries:
            verdict = entry.check(exchange, self.stage)
            exchange.verdicts.append(verdict)
            stopped = stopped or verdict.stops
            if verdict.error is not None:
                failed.append(verdict.guard)
            elif verdict.shadow is None:
                score = max(score, verdict.score)
        return Judged(score, stopped, tuple(failed))

    def judge_all(self, texts: Sequence[str], advance: Advance = lambda done: None) -> Scores:
        judged = []
        for text in texts:
            judged.append(self.judge(text))
            advance(1)
        return Scores(
            np.array([one.score for one in judged]),
            np.array([one.stopped for one in judged], dtype=bool),
            sum(bool(one.failed) for one in judged),
        )
