"""What a gateway serves and how much it takes."""

from __future__ import annotations

from pydantic import Field

from raysafe.config import Config
from raysafe.control.capabilities import Capabilities
from raysafe.control.trusted import TrustedConfig
from raysafe.guards.policy import Policy
from raysafe.serving.python_tool import PythonToolSettings


class GatewaySettings(Config):
    """What a gateway serves and how much it takes."""

    model: str = Field(min_length=1, description="The name that clients ask for.")
    version: str | None = Field(
        default=None, description="The registered version that is served, as name:number; none before an upstream."
    )
    policy: Policy
    policy_file: str | None = Field(
        default=None, description="The file that `policy` came from, followed while the service runs; none: it stays."
    )
    granted: Capabilities | None = Field(
        default=None,
        description="What the model's safety case grants; none where it has no case.",
    )
    trusted: TrustedConfig | None = Field(
        default=None, description="The model that answers while an intervention degrades the service."
    )
    approved_guards: str | None = Field(
        default=None,
        description="Digest of the only policy of guards that the model's approval is for; none: for any.",
    )
    answer_tokens: int = Field(
        default=1024,
        ge=1,
        description="Most tokens of an answer where a request sets no limit, for budgets.",
    )
    request_timeout_s: float = Field(default=120.0, gt=0, description="Longest work of the model on one request.")
    body_timeout_s: float = Field(default=30.0, gt=0, description="Longest wait for a request's body.")
    body_bytes: int = Field(default=1 << 20, gt=0, description="Largest request body.")
    max_requests: int = Field(default=512, ge=1, description="Most requests under way; others are told to come back.")
    python_tool: PythonToolSettings | None = Field(
        default=None, description="The tool `python`, which the gateway runs for the model; none: it isn't offered."
    )
    hold_hours: float = Field(default=24.0, gt=0, description="How long what a guard holds waits for a reviewer.")
