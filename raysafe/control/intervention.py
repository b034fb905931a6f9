"""What can be done about a service while it runs, short of ending it.

throttle: at most so many requests a minute, over all gateways. require_review: every answer is held for a person.
shadow_block: guards in shadow mode are enforced, on every exchange. degrade: the trusted model answers, behind the same
guards. roll_back: the version in `away_from` answers nothing any more, and `raysafe serve` starts the one in `to` in
its place. quarantine: only reviewers and operators get answers. kill: nobody does (kill_orders.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.control.kill_log import ALL

Kind = Literal["throttle", "require_review", "shadow_block", "degrade", "roll_back", "quarantine", "kill"]
State = Literal["proposed", "applied", "declined", "reverted"]


class InterventionOrder(Config):
    """An intervention as somebody asks for it."""

    kind: Kind
    target: str = Field(
        min_length=1, max_length=300, description="A service or model, by any of its names; * is every one."
    )
    requests_per_minute: float | None = Field(default=None, gt=0, description="Of a throttle.")
    to: str | None = Field(default=None, description="Of a roll_back: the approved version to serve, as name:version.")
    away_from: str | None = Field(default=None, description="Of a roll_back: the version to serve no more.")
    starts: datetime | None = Field(default=None, description="When it begins; at once by default.")
    duration_s: float | None = Field(default=None, gt=0, description="How long it lasts; until reverted by default.")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.requests_per_minute is not None) != (self.kind == "throttle"):
            raise ValueError("requests_per_minute belongs to a throttle, which needs it")
        if (self.to is not None and self.away_from is not None) != (self.kind == "roll_back"):
            raise ValueError("a roll_back, and nothing else, names the versions in `to` and `away_from`")
        if self.kind == "roll_back" and self.target == ALL:
            raise ValueError("a roll_back is of one model: give its name")
        if self.kind == "kill" and (self.starts or self.duration_s):
            raise ValueError("a kill is at once, and until it is restored: leave out starts and duration_s")
        if self.starts is not None and self.starts.tzinfo is None:
            raise ValueError("starts needs its time zone, as in 2026-12-01T08:00:00+00:00")
        return self

    def options(self) -> dict[str, Any]:
        """What is kept of it beside kind, target and times."""
        names = ("requests_per_minute", "to", "away_from")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Intervention(NamedTuple):
    """An intervention and what became of it."""

    id: str
    target: str
    kind: Kind
    options: dict[str, Any]
    reason: str
    alert: str | None
    """The alert that it answers, by its id."""
    state: State
    proposed_by: str
    proposed: datetime | None = None
    starts: datetime | None = None
    duration_s: float | None = None
    until: datetime | None = None
    applied_by: str | None = None
    applied: datetime | None = None
    audit_hash: str | None = None
    ended_by: str | None = None
    end_reason: str | None = None
    ended: datetime | None = None
    note: str = ""
    """Why it is in force although the store or the log, read alone, would say otherwise."""

    def concerns(self, names: frozenset[str]) -> bool:
        return self.target == ALL or self.target in names

    def holds(self, now: datetime) -> bool:
        """Whether it is in force at `now`."""
        begun = self.starts is None or self.starts <= now
        return self.state == "applied" and begun and (self.until is None or now < self.until)

    def status(self, now: datetime) -> str:
        """proposed, declined, reverted, scheduled, in force or over."""
        if self.state != "applied":
            return self.state
        if self.holds(now):
            return "in force"
        return "over" if self.until is not None and now >= self.until else "scheduled"

    def __str__(self) -> str:
        what = "everything" if self.target == ALL else f"'{self.target}'"
        options = "".join(
            f" {name}={value:g}" if isinstance(value, float) else f" {name}={value}"
            for name, value in self.options.items()
        )
        who = self.applied_by or self.proposed_by
        until = f", until {self.until.isoformat()[:19]}" if self.until else ""
        return f"{self.kind}{options} of {what} by {who}{until}: {self.reason}" + (
            f" ({self.note})" if self.note else ""
        )
