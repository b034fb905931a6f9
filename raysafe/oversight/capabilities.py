"""What an approved model may do: a record that reviewers sign; control/ will enforce it as the upper limit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysafe.config import Config


class Capabilities(Config):
    """The five capabilities of a safety case. Nothing is granted that isn't named: the defaults allow text alone."""

    tokens_per_minute: int | None = Field(default=None, ge=1, description="Computational resources; none: no limit.")
    requests_per_minute: int | None = Field(default=None, ge=1)
    data_classes: tuple[str, ...] = Field(default=(), description="Information that it may read, by class.")
    domains: tuple[str, ...] = Field(default=(), description="Network domains that its tools may reach.")
    tools: tuple[str, ...] = Field(default=(), description="Actions that it may call, by tool name.")
    autonomy: Literal[0, 1, 2, 3] = Field(
        default=0, description="0 suggest, 1 act after approval, 2 act then report, 3 act."
    )
    scope: Literal["self", "tenant", "public"] = Field(default="self", description="Whom its actions may touch.")
    recipients: int = Field(default=0, ge=0, description="People whom one action may reach.")
