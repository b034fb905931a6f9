"""What every guard's settings have in common, and what a guard may be given when it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from raysafe.config import Config
from raysafe.guards.guard import Guard, Message

Ask = Callable[[Sequence[Message]], str]
"""Messages to a model's answer; it may take as long as the model does."""


@dataclass(frozen=True)
class Resources:
    """What the service around a pipeline offers to its guards.

    upstream: asks the guarded model itself, unguarded. granted: the capabilities that the model's safety case grants
    (control.capabilities.Capabilities); None where there is no case.
    """

    upstream: Ask | None = None
    granted: Any = None


NOTHING = Resources()


class GuardConfig(Config):
    """One guard of a policy. A subclass adds its own fields, with defaults for `kind` and `name`."""

    kind: str
    name: str = Field(min_length=1, description="Shown in verdicts and in the audit log.")
    timeout_s: float = Field(default=5.0, gt=0, description="A check that takes longer counts as failed.")
    on_error: Literal["closed", "open"] = Field(default="closed", description="open lets text past a failed guard.")

    def build(self, resources: Resources = NOTHING) -> Guard:
        """The guard; raises RaySafeError where something that it needs isn't there."""
        raise NotImplementedError(f"{type(self).__name__} builds no guard")
