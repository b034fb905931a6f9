"""What members sign: canonical JSON that names everything it is about, so that it counts there and nowhere else.

`committee` is drawn at the founding, `sequence` counts a member's statements on one subject, and a vote holds the
review's nonce and the digests of weights, evidence, guards, policy and proposal. So none counts twice, for another
review, another version, or another committee.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from raysafe.config import Config
from raysafe.control.capabilities import Capabilities
from raysafe.errors import ConfigError
from raysafe.oversight.committee.policy import CommitteePolicy, Role, Stage
from raysafe.oversight.committee.tally import Choice
from raysafe.records.audit_chain import canonical

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Finding = Literal["adequate", "inadequate"]
Text = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]


class Proposal(Config):
    """What an approval would grant, and on what conditions."""

    capabilities: Capabilities = Field(default_factory=Capabilities)
    accept_failures: tuple[str, ...] = Field(
        default=(), description="Failed figures that it passes over, suite/metric."
    )
    valid_s: float = Field(gt=0, description="How long it holds, from the end of the vote.")
    conditions: tuple[str, ...] = Field(default=(), description="What else is to be kept to, in words.")
    monitored: tuple[str, ...] = Field(default=(), description="Metrics of the monitor that must be watched.")

    @property
    def digest(self) -> str:
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class Bound(Config):
    """All that a review is about."""

    nonce: str = Field(pattern="^[0-9a-f]{32}$")
    model: str = Field(description="The version, as name:number.")
    weights: Digest
    evidence: Digest
    guards: Digest = Field(description="Digest of the guards' policy.")
    files: dict[str, Digest] = Field(default_factory=dict, description="Files that the evidence rests on.")
    policy: Digest = Field(description="Digest of the committee's policy.")
    proposal: Digest


class Statement(Config):
    """What every statement says."""

    purpose: Literal["raysafe committee 1"] = "raysafe committee 1"
    committee: str
    member: str
    sequence: int = Field(ge=0, description="How many statements the member signed on this subject before.")


class Admission(Statement):
    """A chair admits who has asked to join."""

    kind: Literal["admission"] = "admission"
    candidate: str
    name: str
    roles: tuple[Role, ...]
    public_key: Digest


class Revocation(Statement):
    """A chair, or the member, ends a membership and its key."""

    kind: Literal["revocation"] = "revocation"
    revoked: str
    reason: Text


class PolicySetting(Statement):
    """A chair sets the standing policy."""

    kind: Literal["policy"] = "policy"
    policy: CommitteePolicy


class Assessment(Statement):
    """A member's assessment of one stage."""

    kind: Literal["assessment"] = "assessment"
    review: str
    bound: Bound
    stage: Stage
    finding: Finding
    reason: Text


class Vote(Statement):
    """A member's vote."""

    kind: Literal["vote"] = "vote"
    review: str
    bound: Bound
    choice: Choice
    reason: Text


OnReview = Assessment | Vote
AnyStatement = Annotated[Admission | Revocation | PolicySetting | Assessment | Vote, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[AnyStatement] = TypeAdapter(AnyStatement)


def payload_of(statement: Statement) -> str:
    """The text whose UTF-8 bytes are signed."""
    return canonical(statement.model_dump(mode="json")).decode()


def read_statement(payload: str) -> AnyStatement:
    """The statement in a payload; raises ConfigError where it is none, or not spelled as it would be signed."""
    try:
        found = from_values(json.loads(payload))
    except (ValueError, RecursionError):
        found = None
    if found is None or payload_of(found) != payload:
        raise ConfigError(
            "the payload is no statement of a committee's member: sign what `raysafe committee vote --payload` prints, "
            "unchanged"
        )
    return found


def from_values(values: Any) -> AnyStatement:
    """The statement in a mapping; raises ConfigError."""
    try:
        return _ADAPTER.validate_python(values)
    except (ValidationError, ConfigError) as error:
        raise ConfigError(f"no statement of a committee's member: {str(error).splitlines()[0]}") from None


def subject_of(statement: AnyStatement) -> str:
    """What a statement's sequence counts on: its review, or the committee."""
    return statement.review if isinstance(statement, OnReview) else statement.committee
