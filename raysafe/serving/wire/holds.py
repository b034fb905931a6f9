"""The wire format of decisions on what is held."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysafe.serving.wire.parsing import Wire


class HoldDecision(Wire):
    """What `/v1/holds/ID` takes from a reviewer."""

    outcome: Literal["released", "refused"]
    # a NUL is a text to the audit log and none to PostgreSQL: the log would tell of what the store has refused
    note: str = Field(
        min_length=1,
        max_length=10_000,
        pattern=r"^[^\x00]*$",
        description="Why; kept with the decision and in the audit log.",
    )
