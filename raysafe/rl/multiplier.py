"""The Lagrange multiplier of a cost constraint: what a unit of cost is worth in reward, as learning goes on.

Plain gradient ascent on the dual is the integral term alone; a proportional and a derivative term damp its swings
(Stooke, Achiam and Abbeel 2020, algorithm 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from raysafe.config import Config


class MultiplierSettings(Config):
    """A controller of the episodes' cost. All gains are in reward per cost, per unit of cost above the limit."""

    initial: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Multiplier before any episode.")
    integral: float = Field(
        default=0.05, gt=0, allow_inf_nan=False, description="Gain of the sum over updates: the dual's learning rate."
    )
    proportional: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Gain of the last excess itself.")
    derivative: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Gain of a rise of the cost.")
    largest: float = Field(default=100.0, gt=0, allow_inf_nan=False, description="What the multiplier is kept below.")


@dataclass
class Multiplier:
    """value: the multiplier, never negative."""

    settings: MultiplierSettings
    limit: float
    total: float
    last_cost: float | None = None
    value: float = 0.0

    @classmethod
    def start(cls, settings: MultiplierSettings, limit: float) -> Multiplier:
        return cls(settings, limit, settings.initial, None, settings.initial)

    def update(self, cost: float) -> float:
        """The next value, after episodes whose mean cost was this."""
        gains, excess = self.settings, cost - self.limit
        self.total = min(max(0.0, self.total + gains.integral * excess), gains.largest)
        rise = max(0.0, cost - self.last_cost) if self.last_cost is not None else 0.0
        self.last_cost = cost
        self.value = min(max(0.0, self.total + gains.proportional * excess + gains.derivative * rise), gains.largest)
        return self.value

    def state(self) -> dict[str, float]:
        known = {} if self.last_cost is None else {"last_cost": self.last_cost}
        return {"total": self.total, "value": self.value, **known}

    def set_state(self, state: dict[str, float]) -> None:
        self.total, self.value, self.last_cost = state["total"], state["value"], state.get("last_cost")
