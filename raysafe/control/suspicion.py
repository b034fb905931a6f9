"""When a control protocol acts: a monitor, which is any guard, scores a text; a threshold or a budget decides.

`threshold` acts on every score that reaches it; `audit_budget` acts on that share of the texts, the most suspicious
first (audit_budget.py), counted at this gateway replica since it started.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from raysafe.control.audit_budget import AuditBudget, Call
from raysafe.errors import ConfigError, RaySafeError
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Stage
from raysafe.guards.kinds import kind_of
from raysafe.guards.settings import NOTHING, GuardConfig, Resources, higher, only


class MonitorFailed(RaySafeError):
    """A protocol's monitor gave no score, so that the protocol has failed as well."""


class ProtocolConfig(GuardConfig):
    """What the control protocols have in common."""

    tighter: ClassVar = {
        **GuardConfig.tighter,
        "audit_budget": higher,
        "when_spent": only("block"),
        "irreplaceable": only("block"),
    }

    timeout_s: float = Field(default=120.0, gt=0, description="Monitor, trusted model and samples together.")
    monitor: SerializeAsAny[GuardConfig] = Field(
        description="A guard of any kind, with its settings; the score of its verdict is the suspicion, 0 to 1."
    )
    threshold: float | None = Field(default=None, gt=0, le=1, description="Act on every score from this on.")
    audit_budget: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Act on this share of answers and sets of tool calls, highest scores first.",
    )
    burst: int = Field(default=10, ge=0, description="By so many acts the budget may run ahead of its share.")
    window: int = Field(default=1000, ge=10, description="Scores before it that a score is ranked among.")
    when_spent: Literal["block", "hold", "allow"] = Field(
        default="block", description="On a suspicious text when the budget is spent, as under a burst of attacks."
    )

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "config") -> Self:
        monitor = values.get("monitor")
        if isinstance(monitor, dict):
            where = f"{source}, monitor"
            kind_of(monitor.get("kind"), where).parse(monitor, where)
        return super().parse(values, source)

    @field_validator("monitor", mode="before")
    @classmethod
    def _of_its_kind(cls, monitor: Any) -> Any:
        return kind_of(monitor.get("kind"), "monitor")(**monitor) if isinstance(monitor, dict) else monitor

    @model_validator(mode="after")
    def _acts_on_something(self) -> Self:
        if (self.threshold is None) == (self.audit_budget is None):
            raise ValueError("a control protocol needs either threshold or audit_budget")
        if self.audit_budget is None and (idle := _changed(self, "burst", "window", "when_spent")):
            raise ValueError(f"{', '.join(idle)} has no effect without audit_budget: leave it out")
        if idle := _changed(self.monitor, "on_error", "mode", "sample", "beside", "overridable"):
            raise ValueError(f"{', '.join(idle)} has no effect on a monitor: leave it out, or set it on the protocol")
        return self

    def suspicion(self, resources: Resources = NOTHING) -> Suspicion:
        """Monitor and decision; raises ConfigError for a monitor that doesn't read what the model writes."""
        monitor = self.monitor.build(resources)
        if "output" not in monitor.stages:
            raise ConfigError(
                f"the monitor '{monitor.name}' of '{self.name}' reads {', '.join(sorted(monitor.stages))} only: "
                "a monitor must read the stage output"
            )
        budget = None
        if self.audit_budget is not None:
            budget = AuditBudget(self.audit_budget, burst=self.burst, window=self.window)
        return Suspicion(Entry(monitor, self.monitor.timeout_s), self.threshold, budget)


def _changed(config: GuardConfig, *names: str) -> list[str]:
    """Those of the fields that have another value than the default."""
    fields = type(config).model_fields
    return [name for name in names if getattr(config, name) != fields[name].default]


class Suspicion:
    """Exactly one of `threshold` and `budget` is there."""

    def __init__(self, monitor: Entry, threshold: float | None, budget: AuditBudget | None) -> None:
        self.monitor, self.threshold, self.budget = monitor, threshold, budget

    def score(self, exchange: Exchange, stage: Stage) -> float:
        """The monitor's; raises MonitorFailed."""
        verdict = self.monitor.check(exchange, stage)
        if verdict.error is not None:
            raise MonitorFailed(f"the monitor '{verdict.guard}' failed: {verdict.error}")
        return verdict.score

    def score_of(self, exchange: Exchange, answer: str) -> float:
        """Of another answer in the place of the exchange's."""
        asked = [verdict for verdict in exchange.verdicts if verdict.stage == "input"]
        return self.score(replace(exchange, output=answer, tool_calls=(), verdicts=asked), "output")

    def decide(self, score: float) -> Call:
        """What a text of this score calls for; counted, and charged to the budget."""
        if self.budget is not None:
            return self.budget.decide(score)
        return "act" if self.exceeds(score) else "clear"

    def exceeds(self, score: float) -> bool:
        """Whether the score is suspicious, without counting it."""
        if self.budget is not None:
            return self.budget.suspicious(score)
        assert self.threshold is not None  # ProtocolConfig checked it
        return score >= self.threshold
