"""What every guard's settings have in common, and what a guard may be given when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.guards.guard import Guard, Message

Ask = Callable[[Sequence[Message]], str]
"""Messages to a model's answer; it may take as long as the model does."""


@dataclass(frozen=True)
class Resources:
    """What the service around a pipeline offers to its guards.

    upstream: asks the guarded model itself, unguarded. granted: the capabilities that the model's safety case grants
    (control.capabilities.Capabilities); None where there is no case. always: guards that stand in front of every
    policy's own, whatever it says, unless it has one of the same kind.
    """

    upstream: Ask | None = None
    granted: Any = None
    always: tuple[GuardConfig, ...] = ()


NOTHING = Resources()


Tighter = Callable[[Any, Any], bool]
"""Whether a field's new value (second) lets through at most what its old value (first) did."""


def lower(old: float | None, new: float | None) -> bool:
    """For limits; None is no limit."""
    return new is not None and (old is None or new <= old)


def lower_threshold(old: float | None, new: float | None) -> bool:
    """For scores from which a guard acts; None is one that isn't written here, such as a model's own."""
    return old is not None and new is not None and new <= old


def higher(old: float | None, new: float | None) -> bool:
    """For shares of what is looked at; None is no share, but another rule."""
    return old is not None and new is not None and new >= old


def only(value: object) -> Tighter:
    """For fields of which one value is the strictest."""
    return lambda old, new: new == value


class GuardConfig(Config):
    """One guard of a policy. A subclass adds its own fields, with defaults for `kind` and `name`.

    `tighter` tells which fields, where a guard has them, a tenant may tighten though the guard isn't overridable; a
    subclass may add to it.
    """

    tighter: ClassVar[Mapping[str, Tighter]] = {
        "on_error": only("closed"),
        "mode": only("enforce"),
        "sample": higher,
        "beside": only(False),
        "action": only("block"),
        "threshold": lower_threshold,
    }

    kind: str
    name: str = Field(min_length=1, description="Shown in verdicts and in the audit log.")
    timeout_s: float = Field(
        default=5.0,
        gt=0,
        description="A check that takes longer counts as failed; of a streamed answer, each step has this long.",
    )
    on_error: Literal["closed", "open"] = Field(default="closed", description="open lets text past a failed guard.")
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="shadow: the guard runs and what it would have done is recorded; nothing else."
    )
    sample: float = Field(
        default=1.0, ge=0, le=1, description="The fraction of exchanges that the guard is asked about."
    )
    beside: bool = Field(
        default=False,
        description="Check requests while the model works already, holding back its answer: for slow guards that never "
        "modify.",
    )
    overridable: bool = Field(
        default=False, description="Tenants may loosen or remove this guard; otherwise they may only tighten it."
    )

    @model_validator(mode="after")
    def _modifies_in_time(self) -> Self:
        if self.beside and self.mode == "enforce" and getattr(self, "action", None) == "modify":
            raise ValueError(
                "a guard that modifies must have done so before the model is asked: leave out beside, or choose the "
                "action block or hold"
            )
        return self

    def build(self, resources: Resources = NOTHING) -> Guard:
        """The guard; raises RaySafeError where something that it needs isn't there."""
        raise NotImplementedError(f"{type(self).__name__} builds no guard")
