"""ScoredGuard: acts where a text's score reaches a threshold; what the linear, injection and gibberish guards are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from raysafe.guards.guard import Exchange, OutputFilter, Stage, Verdict
from raysafe.guards.judging import SteppedFilter, Steps, judged_texts
from raysafe.guards.settings import GuardConfig


class ScoredConfig(GuardConfig):
    """Settings of a guard that acts on a score from 0 to 1."""

    stages: tuple[Literal["input", "output"], ...] = Field(
        default=("input",), min_length=1, description="input: what clients send; output: what the model writes."
    )
    action: Literal["block", "hold"] = Field(
        default="block", description="hold keeps the exchange for a person, where the service has such a queue."
    )
    roles: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Roles of the messages that are judged; all where none are named."
    )
    stream_step: int = Field(
        default=400, ge=16, le=65536, description="Characters of a streamed answer that are judged and leave together."
    )


class ScoredGuard:
    """A subclass gives `score`, linear in the text, and the reason that its verdicts state."""

    inline = True
    window = 1600
    """Characters of a streamed answer that are judged together."""

    def __init__(self, config: ScoredConfig, threshold: float, reason: str) -> None:
        self.config, self.name = config, config.name
        self.stages: frozenset[Stage] = frozenset(config.stages)
        self.threshold, self._reason = threshold, reason
        self._steps = Steps(self.window, config.stream_step)

    def score(self, text: str) -> float:
        """How much speaks against one text, from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} gives no score")

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        highest = 0.0
        for text in judged_texts(exchange, stage, self.config.roles):
            # a whole answer is judged as its stream would be
            passages: Iterable[str] = self._steps.passages(text) if stage == "output" else (text,)
            for passage in passages:
                highest = max(highest, self.score(passage))
                if stage == "output" and highest >= self.threshold:
                    return self.verdict(stage, highest)
        return self.verdict(stage, highest)

    def verdict(self, stage: Stage, score: float) -> Verdict:
        if score < self.threshold:
            return Verdict(self.name, stage, "allow", score=score)
        reason = f"{self._reason} (score {score:.3f}, threshold {self.threshold:.3f})"
        return Verdict(self.name, stage, self.config.action, reason, score)

    def open(self, exchange: Exchange) -> OutputFilter:
        return SteppedFilter(self._steps, self.score, lambda score: self.verdict("output", score))
