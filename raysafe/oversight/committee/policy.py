"""The committee's policy: who must be there, what a majority is, who may veto, and within what time.

name: standing
quorum: {members: 3, share: 0.5}
majority: two_thirds
veto: [safety]
must_vote: [chair, safety]
stages: [initial, technical, ethical, deliberation]
deadline_s: 2592000
"""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, field_validator

from raysafe.config import Config
from raysafe.records.audit_chain import canonical

DAY_S = 86400.0
Role = Annotated[str, Field(pattern=r"^[a-z][a-z_-]{0,39}$")]
Stage = Literal["initial", "technical", "ethical", "stakeholder", "deliberation"]
Majority = Literal["simple", "two_thirds", "three_quarters", "unanimous"]
CHAIR = "chair"
SHARES = {"two_thirds": Fraction(2, 3), "three_quarters": Fraction(3, 4), "unanimous": Fraction(1)}


class Quorum(Config):
    """How many of those who may vote must: both are to be met, and an abstention is a vote."""

    members: int = Field(default=1, ge=1, description="At least so many members.")
    share: float = Field(default=0.5, ge=0, le=1, description="At least this share of those who may vote.")

    def of(self, eligible: int) -> int:
        """The number that must vote, of so many who may."""
        # by its decimal spelling: 0.6 of 5 is 3, though the nearest double to 0.6 is a little more or less
        return max(self.members, math.ceil(Fraction(str(self.share)) * eligible))


class Appeals(Config):
    """Who may ask for a second decision, until when, and who then decides."""

    by: tuple[Literal["submitter", "member"], ...] = Field(
        default=("submitter", "member"), description="Nobody, where it is empty."
    )
    within_s: float = Field(default=14 * DAY_S, ge=0, description="After the first decision.")
    panel: Literal["without_chair", "new", "same"] = Field(
        default="without_chair", description="Without the chairs who voted, without all who voted, or unchanged."
    )


class CommitteePolicy(Config):
    """How a store's models are decided on."""

    name: str = Field(default="committee", min_length=1, max_length=100)
    committee: Literal["required", "none"] = Field(
        default="required", description="none: a single reviewer may decide, by `raysafe review`."
    )
    quorum: Quorum = Field(default_factory=Quorum)
    majority: Majority = Field(
        default="simple", description="Of approvals among approvals and rejections; simple is more than half."
    )
    veto: tuple[Role, ...] = Field(default=("safety",), description="Roles of which one rejection rejects.")
    must_vote: tuple[Role, ...] = Field(
        default=(CHAIR,), description="Roles of which at least one member must have voted, abstentions included."
    )
    stages: tuple[Stage, ...] = Field(
        default=("initial", "technical", "ethical", "stakeholder", "deliberation"),
        description="Each must be assessed before anybody votes.",
    )
    assessors: dict[Stage, tuple[Role, ...]] = Field(
        default_factory=dict, description="Roles that may assess a stage; any member where a stage isn't named."
    )
    deadline_s: float = Field(default=30 * DAY_S, gt=0, description="After which a review lapses, and nothing changes.")
    voting_s: float = Field(
        default=7 * DAY_S,
        ge=0,
        description="How long members have to vote once all stages are in; sooner where no vote could change the end.",
    )
    valid_s: float = Field(default=180 * DAY_S, gt=0, description="The longest time that an approval holds.")
    submitter_votes: bool = Field(default=False, description="Whether who submitted a model may assess and vote.")
    trainer_votes: bool = Field(default=False, description="Whether who trained a model may assess and vote.")
    appeals: Appeals = Field(default_factory=Appeals)

    @field_validator("stages")
    @classmethod
    def _once(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if len(set(stages)) < len(stages):
            raise ValueError("each stage is named once")
        return stages

    @property
    def digest(self) -> str:
        """sha256 of all settings in canonical JSON, defaults included."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()
