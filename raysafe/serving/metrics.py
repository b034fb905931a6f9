"""The gateway's own Prometheus metrics, in a registry of its own; no label ever holds text of an exchange."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from raysafe.guards.decision import Decision
from raysafe.guards.guard import Action, Stage

Outcome = Literal["allowed", "input_blocked", "output_blocked", "limited", "refused", "failed", "cancelled"]
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one gateway replica; the model's name is a label of each."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._requests = Counter(
            "raysafe_requests", "Chat requests by how they ended", ["model", "mode", "outcome"], registry=self.registry
        )
        self._verdicts = Counter(
            "raysafe_verdicts",
            "Guards' verdicts; in shadow mode, what they would have been",
            ["model", "guard", "stage", "action", "failed", "shadow"],
            registry=self.registry,
        )
        self._guard_s = Histogram(
            "raysafe_guard_seconds",
            "Time in one guard at one stage",
            ["model", "guard", "stage"],
            buckets=(1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.25, 1, 5),
            registry=self.registry,
        )
        self._request_s = Histogram(
            "raysafe_request_seconds", "Time of a request", ["model", "mode"], buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter("raysafe_tokens", "Tokens of allowed answers", ["model", "kind"], registry=self.registry)
        self._runs = Counter(
            "raysafe_tool_runs",
            "Programs run for the model, by the limit that ended them, and whether they tried to get out",
            ["model", "limit", "breach"],
            registry=self.registry,
        )
        self._under_way = Gauge("raysafe_requests_under_way", "Requests now", ["model"], registry=self.registry)
        self._unauthorised = Counter("raysafe_unauthorised", "Requests without a valid key", registry=self.registry)
        self.under_way = self._under_way.labels(model)
        self._of_verdict = lru_cache(maxsize=4096)(self._verdict_series)
        self._of_tokens = lru_cache(maxsize=2)(self._token_series)
        self._of_end = lru_cache(maxsize=64)(self._end_series)

    def decided(self, decision: Decision) -> None:
        for verdict in decision.verdicts:
            action, shadow, failed = verdict.action, verdict.shadow, bool(verdict.error)
            count, time = self._of_verdict(verdict.guard, verdict.stage, action, shadow, failed)
            count.inc()
            time.observe(verdict.elapsed_s)

    def _verdict_series(
        self, guard: str, stage: Stage, action: Action, shadow: Action | None, failed: bool
    ) -> tuple[Counter, Histogram]:
        """The series that a verdict adds to; looked up once (`labels` takes longer than adding does)."""
        shown = (shadow, "yes") if shadow else (action, "no")
        count = self._verdicts.labels(self._model, guard, stage, shown[0], "yes" if failed else "no", shown[1])
        return count, self._guard_s.labels(self._model, guard, stage)

    def ended(self, stream: bool, outcome: Outcome, seconds: float) -> None:
        count, time = self._of_end("stream" if stream else "whole", outcome)
        count.inc()
        time.observe(seconds)

    def _end_series(self, mode: str, outcome: Outcome) -> tuple[Counter, Histogram]:
        return self._requests.labels(self._model, mode, outcome), self._request_s.labels(self._model, mode)

    def tokens(self, prompt_tokens: int, completion_tokens: int) -> None:
        self._of_tokens("prompt").inc(prompt_tokens)
        self._of_tokens("completion").inc(completion_tokens)

    def _token_series(self, kind: str) -> Counter:
        return self._tokens.labels(self._model, kind)

    def ran(self, limit_hit: str | None, breach: bool) -> None:
        """A program of the model's has ended."""
        self._runs.labels(self._model, limit_hit or "none", "yes" if breach else "no").inc()

    def unauthorised(self) -> None:
        self._unauthorised.inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
