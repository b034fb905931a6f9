"""Control protocols: what is done about an answer that may be an attack of the model that wrote it.

The untrusted model is assumed to attack now and then, and to know that it is watched (Greenblatt et al. 2024, "AI
Control"; Griffin et al. 2024; resampling: Bhatt et al. 2025). Each protocol is a guard of the stage output:

- kind: trusted_monitoring        # hold what is suspicious, for people to audit
  audit_budget: 0.02
  monitor: {kind: judge, judge: openai:small@http://127.0.0.1:8000/v1, question: Does the answer sabotage the task?}
- kind: defer_to_trusted          # let the trusted model answer instead
  threshold: 0.8
  trusted: {model: openai:small@http://127.0.0.1:8000/v1}
  monitor: ...

A replaced answer goes through the guards that follow, as any answer does. Calls of tools can't be replaced: those that
are suspicious are held.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import Field

from raysafe.control.suspicion import ProtocolConfig, Suspicion
from raysafe.control.trusted import TrustedConfig, TrustedModel, similarity
from raysafe.errors import ConfigError
from raysafe.guards.guard import Action, Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, Ask, Resources


class TrustedMonitoringConfig(ProtocolConfig):
    """`kind: trusted_monitoring` of a policy."""

    kind: Literal["trusted_monitoring"] = "trusted_monitoring"
    name: str = Field(default="trusted-monitoring", min_length=1)
    action: Literal["hold", "block"] = Field(default="hold", description="On what is suspicious.")

    def build(self, resources: Resources = NOTHING) -> TrustedMonitoring:
        return TrustedMonitoring(self, self.suspicion(resources))


class ReplacingConfig(ProtocolConfig):
    """A protocol that puts another answer in a suspicious one's place."""

    irreplaceable: Literal["hold", "block"] = Field(
        default="hold", description="On suspicious tool calls, and answers that are no text, such as embeddings."
    )


class DeferToTrustedConfig(ReplacingConfig):
    """`kind: defer_to_trusted` of a policy."""

    kind: Literal["defer_to_trusted"] = "defer_to_trusted"
    name: str = Field(default="defer-to-trusted", min_length=1)
    trusted: TrustedConfig = Field(description="The model that answers in the place of the guarded one.")

    def build(self, resources: Resources = NOTHING) -> DeferToTrusted:
        return DeferToTrusted(self, self.suspicion(resources), TrustedModel(self.trusted, self.timeout_s))


class DeferToResampleConfig(ReplacingConfig):
    """`kind: defer_to_resample` of a policy."""

    kind: Literal["defer_to_resample"] = "defer_to_resample"
    name: str = Field(default="defer-to-resample", min_length=1)
    samples: int = Field(
        default=3, ge=1, le=32, description="New answers of the guarded model; the least suspicious leaves."
    )
    trusted: TrustedConfig | None = Field(
        default=None, description="Answers where all samples are suspicious too; without it they are held."
    )

    def build(self, resources: Resources = NOTHING) -> DeferToResample:
        """Raises ConfigError where there is no guarded model to ask again, as in an offline pipeline."""
        if resources.upstream is None:
            raise ConfigError(
                f"'{self.name}' (kind defer_to_resample) asks the guarded model again, and there is none here: "
                "use it in a service, or give build(Resources(upstream=...))"
            )
        trusted = TrustedModel(self.trusted, self.timeout_s) if self.trusted else None
        return DeferToResample(self, self.suspicion(resources), resources.upstream, trusted)


class TrustedEditingConfig(ReplacingConfig):
    """`kind: trusted_editing` of a policy."""

    kind: Literal["trusted_editing"] = "trusted_editing"
    name: str = Field(default="trusted-editing", min_length=1)
    trusted: TrustedConfig = Field(description="The model that edits the answers of the guarded one.")
    hold_below: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Hold an answer whose edit is less similar to it than this: it was an attack.",
    )

    def build(self, resources: Resources = NOTHING) -> TrustedEditing:
        return TrustedEditing(self, self.suspicion(resources), TrustedModel(self.trusted, self.timeout_s))


class Protocol(ABC):
    """Asks the monitor, and acts where its score calls for it. The verdict's score is the suspicion."""

    inline = False

    def __init__(self, config: ProtocolConfig, suspicion: Suspicion) -> None:
        self.suspicion, self.name = suspicion, config.name
        self.stages: frozenset[Stage] = frozenset({"output"})
        self._when_spent: Action = config.when_spent

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """Raises MonitorFailed, ModelError or TimeoutError where monitor or trusted model fail."""
        score = self.suspicion.score(exchange, stage)
        call = self.suspicion.decide(score)
        if call == "clear":
            return Verdict(self.name, stage, "allow", score=score)
        if call == "spent":
            reason = f"suspicion {score:.2f}, and the audit budget is spent"
            return Verdict(self.name, stage, self._when_spent, reason, score)
        return self.act(exchange, stage, score)

    @abstractmethod
    def act(self, exchange: Exchange, stage: Stage, score: float) -> Verdict:
        """The verdict on a suspicious text."""


class TrustedMonitoring(Protocol):
    """Stops what is suspicious."""

    def __init__(self, config: TrustedMonitoringConfig, suspicion: Suspicion) -> None:
        super().__init__(config, suspicion)
        self.inline = suspicion.monitor.guard.inline
        self._action: Action = config.action

    def act(self, exchange: Exchange, stage: Stage, score: float) -> Verdict:
        return Verdict(self.name, stage, self._action, f"suspicion {score:.2f}", score)


class Replacing(Protocol):
    """Replaces a suspicious answer by another text."""

    def __init__(self, config: ReplacingConfig, suspicion: Suspicion) -> None:
        super().__init__(config, suspicion)
        self._irreplaceable: Action = config.irreplaceable

    def act(self, exchange: Exchange, stage: Stage, score: float) -> Verdict:
        if stage == "tool_call" or exchange.endpoint not in ("chat", "completions"):
            reason = f"suspicion {score:.2f}, in what can't be replaced by a text"
            return Verdict(self.name, stage, self._irreplaceable, reason, score)
        return self.replace(exchange, exchange.texts("output")[0], score)

    @abstractmethod
    def replace(self, exchange: Exchange, answer: str, score: float) -> Verdict: ...

    def _replaced(self, text: str, reason: str, score: float) -> Verdict:
        return Verdict(self.name, "output", "modify", f"suspicion {score:.2f}: {reason}", score, replacement=(text,))


class DeferToTrusted(Replacing):
    """The trusted model's answer in the place of a suspicious one."""

    def __init__(self, config: DeferToTrustedConfig, suspicion: Suspicion, trusted: TrustedModel) -> None:
        super().__init__(config, suspicion)
        self.trusted = trusted

    def replace(self, exchange: Exchange, answer: str, score: float) -> Verdict:
        return self._replaced(self.trusted.answer(exchange), "answered by the trusted model", score)


class DeferToResample(Replacing):
    """The least suspicious of the model's new answers; where that one is suspicious too, the trusted model's."""

    def __init__(
        self, config: DeferToResampleConfig, suspicion: Suspicion, upstream: Ask, trusted: TrustedModel | None
    ) -> None:
        super().__init__(config, suspicion)
        self.samples, self.upstream, self.trusted = config.samples, upstream, trusted

    def replace(self, exchange: Exchange, answer: str, score: float) -> Verdict:
        messages = exchange.admitted()
        with ThreadPoolExecutor(self.samples) as pool:
            texts = list(pool.map(lambda _: self.upstream(messages), range(self.samples)))
        scores = [self.suspicion.score_of(exchange, text) for text in texts]
        lowest = min(range(self.samples), key=scores.__getitem__)
        if not self.suspicion.exceeds(scores[lowest]):
            reason = f"replaced by the least suspicious of {self.samples} samples ({scores[lowest]:.2f})"
            return self._replaced(texts[lowest], reason, score)
        reason = f"{self.samples} samples are suspicious too (from {scores[lowest]:.2f})"
        if self.trusted is None:
            return Verdict(self.name, "output", "hold", f"suspicion {score:.2f}, and {reason}", score)
        return self._replaced(self.trusted.answer(exchange), f"{reason}, answered by the trusted model", score)


class TrustedEditing(Replacing):
    """The trusted model's version of a suspicious answer, with how much of it was kept as evidence."""

    def __init__(self, config: TrustedEditingConfig, suspicion: Suspicion, trusted: TrustedModel) -> None:
        super().__init__(config, suspicion)
        self.trusted, self._hold_below = trusted, config.hold_below

    def replace(self, exchange: Exchange, answer: str, score: float) -> Verdict:
        edited = self.trusted.edit(exchange, answer)
        kept = similarity(answer, edited)
        if kept < self._hold_below:
            reason = (
                f"suspicion {score:.2f}, and the trusted model's version is too far from it (similarity {kept:.2f})"
            )
            return Verdict(self.name, "output", "hold", reason, score)
        return self._replaced(edited, f"edited by the trusted model (similarity {kept:.2f})", score)
