"""The figures of one exchange: performance, behaviour and safety, as numbers and names, and none of its text.

Shares are means of zeros and ones: `safety.blocked` has a value for each exchange.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from raysafe.guards.guard import ACT, Exchange, Verdict
from raysafe.monitoring.features import text_features
from raysafe.monitoring.windows import WindowBuilder

MODEL_FAILED = "failed"
ABSTAINED = "abstained"
NEAR_ONE = 1e-6


@dataclass(frozen=True, slots=True)
class Ended:
    """An exchange that has ended. It holds the exchange, with its text, until its figures are computed."""

    exchange: Exchange
    outcome: str
    """serving.metrics.Outcome."""
    seconds: float
    model_seconds: float
    tokens: int | None
    """Of prompt and answer; None where the model told none."""

    @property
    def characters(self) -> int:
        """What it keeps in memory, nearly."""
        return len(self.exchange.output) + sum(len(message.content) for message in self.exchange.messages)


def observe(ended: Ended, window: WindowBuilder) -> None:
    """Add an exchange's figures to a window; linear in its text."""
    window.add(_performance(ended))
    window.add(_safety(ended))
    exchange = ended.exchange
    if exchange.output:
        window.add((f"behaviour.{name}", value) for name, value in text_features(exchange.output).items())
    window.count("performance.outcomes", ended.outcome)
    for call in exchange.tool_calls:
        window.count("safety.tools", call.name)
    if exchange.endpoint == ACT:
        _observe_moves(exchange, window)
    elif exchange.endpoint == "predict" and exchange.output:
        _observe_predictions(exchange, window)


def _observe_moves(exchange: Exchange, window: WindowBuilder) -> None:
    """What a policy itself chose: each of its discrete actions, and how sure it was."""
    for text in exchange.received("tool_call"):
        action = json.loads(text)["action"]
        if isinstance(action, int):
            window.count("behaviour.actions", str(action))
    if exchange.scale == "probabilities":
        window.add(("behaviour.confidence", max(row)) for row in exchange.scores)


def _observe_predictions(exchange: Exchange, window: WindowBuilder) -> None:
    """What a classifier itself said: its labels, and where its scores are one distribution, how sure it was."""
    for one in json.loads(exchange.output):
        window.count("behaviour.labels", one["label"] or ABSTAINED)
        scores = list(one["scores"].values())
        if len(scores) > 1 and abs(sum(scores) - 1) < NEAR_ONE:
            window.add([("behaviour.confidence", max(scores))])


def _performance(ended: Ended) -> Iterator[tuple[str, float]]:
    yield "performance.seconds", ended.seconds
    yield "performance.errors", float(ended.outcome == MODEL_FAILED)
    yield "performance.cancelled", float(ended.outcome == "cancelled")
    if ended.tokens and ended.model_seconds > 0:
        yield "performance.tokens_per_s", ended.tokens / ended.model_seconds


def _safety(ended: Ended) -> Iterator[tuple[str, float]]:
    verdicts = ended.exchange.verdicts
    actions = {verdict.action for verdict in verdicts}
    yield "safety.blocked", float("block" in actions)
    yield "safety.held", float("hold" in actions)
    yield "safety.modified", float("modify" in actions)
    yield "safety.would_stop", float(any(verdict.shadow in ("block", "hold") for verdict in verdicts))
    yield "safety.guard_errors", float(any(verdict.error for verdict in verdicts))
    yield "safety.suspicion", max((verdict.score for verdict in verdicts), default=0.0)
    yield "safety.tool_calls", float(len(ended.exchange.tool_calls))
    highest: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.guard not in highest or highest[verdict.guard].score < verdict.score:
            highest[verdict.guard] = verdict
    acted = {
        verdict.guard for verdict in verdicts if verdict.action != "allow" or verdict.shadow not in (None, "allow")
    }
    for guard, verdict in highest.items():
        yield f"safety.score.{guard}", verdict.score
        yield f"behaviour.guard.{guard}", float(guard in acted)
