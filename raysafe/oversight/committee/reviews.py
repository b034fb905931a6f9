"""One review: what was submitted, who sits on its panel, what has been assessed and voted, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import Field

from raysafe.config import Config
from raysafe.control.people import same_person
from raysafe.oversight.committee.policy import CommitteePolicy, Stage
from raysafe.oversight.committee.statements import Assessment, Bound, Proposal, Vote
from raysafe.oversight.committee.tally import Choice, Result, Seat, Tally, count

State = Literal["assessing", "voting", "approved", "rejected", "lapsed", "superseded"]


class Submission(Config):
    """What was submitted, by whom, and who decides on it."""

    review: str
    submitted_by: str
    reason: str
    trained_by: tuple[str, ...] = Field(default=(), description="Who made the model, as they call themselves.")
    bound: Bound
    proposal: Proposal
    guards_file: str | None = Field(default=None, description="The guards' policy; None for the packaged one.")
    guards_label: str
    stages: tuple[Stage, ...] = Field(description="The policy's, and what else was asked for.")
    deadline: datetime
    panel: tuple[str, ...] = Field(description="Members who were active when it was opened, less an appeal's excluded.")
    appeal_of: str | None = None


class Named(NamedTuple):
    """What a review asks of a member."""

    name: str
    roles: tuple[str, ...]


class Cast(NamedTuple):
    """A vote or an assessment, as it counts."""

    member: str
    time: datetime
    said: Vote | Assessment


@dataclass
class Review:
    """A review and what became of it."""

    submission: Submission
    policy: CommitteePolicy
    opened: datetime
    assessments: dict[tuple[Stage, str], Cast] = field(default_factory=dict)
    votes: dict[str, Cast] = field(default_factory=dict)
    closed: datetime | None = None
    closed_by: str | None = None
    result: Result | None = None
    final: Tally | None = None
    """The tally at its end: who leaves the committee later changes nothing of it."""
    superseded: bool = False

    @property
    def id(self) -> str:
        return self.submission.review

    def state(self, now: datetime, active: Mapping[str, object]) -> State:
        """How it stands; past its deadline an open one has lapsed, and nothing was decided."""
        if self.result is not None:
            return self.result
        if self.superseded:
            return "superseded"
        if now >= self.submission.deadline:
            return "lapsed"
        return "assessing" if self.open_stages(active) else "voting"

    def stage_casts(self, stage: Stage, active: Mapping[str, object]) -> list[Cast]:
        """Assessments of a stage by members who still are ones."""
        return [cast for (of, member), cast in self.assessments.items() if of == stage and member in active]

    def open_stages(self, active: Mapping[str, object]) -> list[Stage]:
        """Stages that nobody has assessed."""
        return [stage for stage in self.submission.stages if not self.stage_casts(stage, active)]

    def excluded(self, name: str) -> str | None:
        """Why a person of this name has no part in it; None where nothing is against it."""
        if not self.policy.submitter_votes and same_person(name, self.submission.submitted_by):
            return "submitted the model"
        if not self.policy.trainer_votes and any(same_person(name, other) for other in self.submission.trained_by):
            return "trained the model"
        return None

    def seats(self, active: Mapping[str, Named]) -> list[Seat]:
        """Who may vote, and how they have."""
        return [
            Seat(member, frozenset(active[member].roles), self._choice(member))
            for member in self.submission.panel
            if member in active and self.excluded(active[member].name) is None
        ]

    def tally(self, active: Mapping[str, Named]) -> Tally:
        return self.final or count(self.policy, self.seats(active))

    def voting_since(self, active: Mapping[str, object]) -> datetime | None:
        """When the last stage was in."""
        if self.open_stages(active):
            return None
        firsts = [min(cast.time for cast in self.stage_casts(stage, active)) for stage in self.submission.stages]
        return max(firsts, default=self.opened)

    def decidable(self, now: datetime, active: Mapping[str, Named]) -> tuple[Result | None, str]:
        """The result if it may be closed now, else None and why it may not."""
        state = self.state(now, active)
        since = self.voting_since(active)
        if state == "lapsed":
            return None, f"it lapsed at its deadline, {self.submission.deadline:%Y-%m-%d %H:%M} UTC: submit it again"
        if state == "assessing" or since is None:
            return None, f"not assessed yet: {', '.join(self.open_stages(active))}"
        if state != "voting":
            return None, f"it is {state}"
        tally = self.tally(active)
        if tally.outcome is None:
            missing = [f"{tally.voted} of {tally.quorum} votes are in"] if tally.voted < tally.quorum else []
            missing += [f"nobody with the role {role} has voted" for role in tally.missing_roles]
            return None, " and ".join(missing)
        ends = since + timedelta(seconds=self.policy.voting_s)
        if not tally.settled and now < ends:
            return None, f"votes that are still out could change it, and members have until {ends:%Y-%m-%d %H:%M} UTC"
        return tally.outcome, ""

    def _choice(self, member: str) -> Choice | None:
        cast = self.votes.get(member)
        return cast.said.choice if cast and isinstance(cast.said, Vote) else None
