"""The arithmetic of budgets: windows, charges in whole units, and who of several askers gets what is left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError

Resource = Literal["requests", "tokens", "model_seconds"]
Window = Literal["minute", "hour", "day", "total"]
LENGTHS_S: dict[str, int] = {"minute": 60, "hour": 3600, "day": 86_400}
_UNITS: dict[str, int] = {"requests": 1, "tokens": 1, "model_seconds": 1000}
"""Counters hold whole units, so that sums are exact: a model's time in milliseconds."""


Spot = tuple[str, int]
"""A counter and the start of its window."""


class Budget(Config):
    """A limit on what one key, tenant or model draws in each window; windows begin at whole minutes, … of UTC."""

    subject: Literal["key", "tenant", "model"]
    name: str = Field(min_length=1, max_length=200, description="Which key, tenant or model.")
    resource: Resource
    window: Window
    limit: float = Field(ge=0, le=1e12, description="Requests, tokens, or seconds of a model's time.")

    @property
    def counter(self) -> str:
        """What the store counts it under; the limit is no part of it, so that a changed limit meets what was drawn."""
        return f"{self.subject}/{self.name}/{self.resource}/{self.window}"

    @property
    def units(self) -> int:
        """The limit in whole units, rounded down."""
        return math.floor(self.limit * _UNITS[self.resource])

    def start(self, now_s: float) -> int:
        """Start of the window that `now_s`, seconds since 1970, lies in; 0 for the only window of a total."""
        length = LENGTHS_S.get(self.window)
        return 0 if length is None else math.floor(now_s / length) * length

    def spot(self, now_s: float) -> Spot:
        return self.counter, self.start(now_s)

    def left_s(self, now_s: float) -> float | None:
        """Seconds to the window's end; None for a total, which has none."""
        length = LENGTHS_S.get(self.window)
        return None if length is None else self.start(now_s) + length - now_s

    def __str__(self) -> str:
        unit = {"model_seconds": "seconds of the model's time"}.get(self.resource, self.resource)
        span = "in total" if self.window == "total" else f"per {self.window}"
        return f"{self.limit:g} {unit} {span} for the {self.subject} '{self.name}'"


class Charge(NamedTuple):
    """Units asked of one budget."""

    budget: Budget
    units: int


Held = tuple[Spot, Resource, int]
"""Units of a resource that were charged at a spot."""


class Granted(NamedTuple):
    """A reservation: it is charged. `settle` it once."""

    charges: tuple[Held, ...]


class Refused(NamedTuple):
    """Nothing was charged. `retry_after_s` is None where waiting doesn't help."""

    budget: Budget
    retry_after_s: float | None


def units_of(resource: Resource, amount: float) -> int:
    """An amount in whole units, rounded up; raises ConfigError for one that is negative or no number."""
    if not (math.isfinite(amount) and 0 <= amount <= 1e12):
        raise ConfigError(f"an amount of {resource} must be from 0 to 1e12, got {amount!r}")
    return math.ceil(amount * _UNITS[resource])


def charges_of(limits: Sequence[Budget], amounts: Mapping[Resource, float]) -> tuple[Charge, ...]:
    """What a request asks of each limit; raises ConfigError for two limits on one counter or a strange amount."""
    units = {resource: units_of(resource, amount) for resource, amount in amounts.items()}
    charges = tuple(Charge(limit, units.get(limit.resource, 0)) for limit in limits)
    if len({limit.counter for limit in limits}) < len(limits):
        raise ConfigError("two limits are on one counter: give the smaller one alone")
    return charges


def decide(
    used: Mapping[Spot, int], asks: Iterable[tuple[Charge, ...]], now_s: float
) -> tuple[list[Granted | Refused], dict[Spot, int]]:
    """Askers in order, each all or nothing; returns their answers and what the counters were charged by all of them."""
    drawn: dict[Spot, int] = {}
    answers: list[Granted | Refused] = []
    for charges in asks:
        held: list[Held] = [(c.budget.spot(now_s), c.budget.resource, c.units) for c in charges]
        over = [
            charge
            for charge, (spot, _, units) in zip(charges, held, strict=True)
            if used.get(spot, 0) + drawn.get(spot, 0) + units > charge.budget.units
        ]
        if over:
            answers.append(_refusal(over, now_s))
            continue
        for spot, _, units in held:
            drawn[spot] = drawn.get(spot, 0) + units
        answers.append(Granted(tuple(held)))
    return answers, drawn


def corrections(granted: Granted, actual: Mapping[Resource, float]) -> dict[Spot, int]:
    """By how much each counter changes, so that it holds what was used instead of what was reserved."""
    units = {resource: units_of(resource, amount) for resource, amount in actual.items()}
    changes = {spot: units.get(resource, 0) - held for spot, resource, held in granted.charges}
    return {spot: change for spot, change in changes.items() if change}


def _refusal(over: Sequence[Charge], now_s: float) -> Refused:
    """Of all budgets that are short the one that is short for longest, for before its end nothing passes."""
    worst, longest = over[0].budget, -1.0
    for charge in over:
        left = None if charge.units > charge.budget.units else charge.budget.left_s(now_s)
        if left is None:
            return Refused(charge.budget, None)
        if left > longest:
            worst, longest = charge.budget, left
    return Refused(worst, longest)
