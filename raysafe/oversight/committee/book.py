"""The committee's state, computed from its events in order. Nothing is taken that the rules don't allow.

`take` is the one place of the rules: an act that is about to be recorded goes through it, and so does every event that
is read, with its signature, so that a forged one is found wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from raysafe.control.people import same_person
from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.committee.events import Event, Kind
from raysafe.oversight.committee.policy import CHAIR, DAY_S, CommitteePolicy
from raysafe.oversight.committee.reviews import Cast, Named, Review, Submission
from raysafe.oversight.committee.statements import (
    Admission,
    AnyStatement,
    Assessment,
    PolicySetting,
    Revocation,
    Vote,
    from_values,
    payload_of,
    subject_of,
)
from raysafe.records.signing import signed_by

SIGNED: dict[type, Kind] = {
    Admission: "member admitted",
    Revocation: "member revoked",
    PolicySetting: "policy set",
    Assessment: "assessed",
    Vote: "voted",
}
"""Which event a signed statement makes."""

BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass
class Member:
    """Who may act, or asked to. A key belongs to one membership, ever."""

    id: str
    name: str
    roles: tuple[str, ...]
    public_key: str
    requested: datetime
    admitted: datetime | None = None
    admitted_by: str | None = None
    revoked: datetime | None = None
    revoked_by: str | None = None

    @property
    def state(self) -> Literal["requested", "active", "revoked"]:
        if self.revoked is not None:
            return "revoked"
        return "requested" if self.admitted is None else "active"


@dataclass
class Book:
    """All that the committee's events say."""

    number: int = 0
    time: datetime = BEGINNING
    """Of the last event; none is before the one that precedes it, whatever the clock says."""
    founding: str | None = None
    """Drawn when the first member joined; every statement names it."""
    members: dict[str, Member] = field(default_factory=dict)
    policy: CommitteePolicy | None = None
    reviews: dict[str, Review] = field(default_factory=dict)
    spoken: dict[tuple[str, str], int] = field(default_factory=dict)
    """(member, subject) -> how many statements it has signed."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> Book:
        """Raises NotApproved where one of them is against the rules: it was forged."""
        book = cls()
        for event in events:
            try:
                book.take(event)
            except (ConfigError, NotApproved) as error:
                raise NotApproved(f"event {event.number} of the committee ({event.kind}) can't be: {error}") from None
        return book

    @property
    def active(self) -> dict[str, Named]:
        """Active members, by id."""
        return {m.id: Named(m.name, m.roles) for m in self.members.values() if m.state == "active"}

    @property
    def stands(self) -> bool:
        """Whether models are decided on by the committee, and by nobody else."""
        return self.policy is not None and self.policy.committee == "required"

    def member(self, reference: str) -> Member:
        """By id or name, an active one before others; raises ConfigError."""
        found = [m for m in self.members.values() if reference == m.id or same_person(reference, m.name)]
        found.sort(key=lambda m: m.state == "active")
        if not found:
            raise ConfigError(f"'{reference}' is no member: `raysafe committee members` lists them")
        return found[-1]

    def review(self, review_id: str) -> Review:
        """Raises ConfigError for an unknown one."""
        if review_id not in self.reviews:
            raise ConfigError(f"there is no review '{review_id}': `raysafe committee queue --all` lists them")
        return self.reviews[review_id]

    def of_model(self, label: str) -> list[Review]:
        """Reviews of a version, oldest first."""
        return [review for review in self.reviews.values() if review.submission.bound.model == label]

    def next_sequence(self, member: str, subject: str) -> int:
        return self.spoken.get((member, subject), 0)

    def take(self, event: Event) -> None:
        """Take one event in, or raise ConfigError or NotApproved and take nothing."""
        if event.number != self.number + 1:
            raise NotApproved(f"it would be event {self.number + 1}, and says that it is {event.number}")
        if event.time < self.time:
            raise NotApproved(f"it is dated before the event that precedes it, {event.time.isoformat()}")
        if event.kind == "member requested":
            self._request(event)
        elif event.kind == "review opened":
            self._open(event)
        elif event.kind == "review closed":
            self._close(event)
        else:
            self._hear(event)
        self.number, self.time = event.number, event.time

    def _request(self, event: Event) -> None:
        body: dict[str, Any] = event.body
        name, roles = body["name"], tuple(body["roles"])
        if not name.strip() or not roles:
            raise ConfigError("a member has a name and at least one role: give --role")
        if any(m.public_key == body["public_key"] for m in self.members.values()):
            raise NotApproved(f"the key of {name} was used by a member before: make a new one, with another --key")
        if any(m.state != "revoked" and same_person(m.name, name) for m in self.members.values()):
            raise NotApproved(f"{name} is a member already, or has asked to be: revoke that first")
        member = Member(event.subject, name, roles, body["public_key"], event.time)
        if self.founding is None:
            if CHAIR not in roles:
                raise ConfigError(f"the first member founds the committee and must have the role {CHAIR}, got {roles}")
            self.founding = body["founding"]
            member.admitted, member.admitted_by = event.time, member.id
        self.members[member.id] = member

    def _open(self, event: Event) -> None:
        submission = Submission.parse(event.body, "submission")
        if self.policy is None:
            raise ConfigError("no policy of the committee stands: a chair sets one by `raysafe committee policy FILE`")
        if submission.bound.policy != self.policy.digest:
            raise NotApproved("the committee's policy has changed since it was submitted")
        if submission.proposal.digest != submission.bound.proposal:
            raise NotApproved("the proposal isn't the one that is bound")
        self._check_terms(submission, event.time)
        older = [r for r in self.of_model(submission.bound.model) if self.is_open(r, event.time)]
        for other in older:
            if other.submission.bound.model_copy(update={"nonce": submission.bound.nonce}) == submission.bound:
                raise ConfigError(f"{submission.bound.model} is under review already, as {other.id}")
        if set(submission.panel) != self._panel(submission, event.time):
            raise NotApproved("its panel isn't the one that the policy asks for")
        review = Review(submission, self.policy, event.time)
        self._check_reachable(review)
        for other in older:
            other.superseded = True
        self.reviews[submission.review] = review

    def is_open(self, review: Review, now: datetime) -> bool:
        return review.state(now, self.active) in ("assessing", "voting")

    def _check_terms(self, submission: Submission, now: datetime) -> None:
        policy, proposal = self.policy, submission.proposal
        assert policy is not None
        if not now < submission.deadline <= now + timedelta(seconds=policy.deadline_s):
            raise ConfigError(f"deadline: the policy lets a review last {_days(policy.deadline_s)}, and no longer")
        if proposal.valid_s > policy.valid_s:
            raise ConfigError(f"valid_s: the policy lets an approval hold for {_days(policy.valid_s)} at the longest")
        left_out = [stage for stage in policy.stages if stage not in submission.stages]
        if left_out:
            raise ConfigError(f"stages: the policy asks for {', '.join(left_out)} too")

    def panel(self, appeal_of: str | None) -> tuple[str, ...]:
        """Who would sit on a review that is opened now."""
        outside: set[str] = set()
        if appeal_of is not None:
            first = self.review(appeal_of)
            if first.policy.appeals.panel == "new":
                outside = set(first.votes)
            elif first.policy.appeals.panel == "without_chair":
                outside = {m for m in first.votes if CHAIR in self.members[m].roles}
        return tuple(member for member in self.active if member not in outside)

    def _panel(self, submission: Submission, now: datetime) -> set[str]:
        if submission.appeal_of is not None:
            self._check_appeal(submission, self.review(submission.appeal_of), now)
        return set(self.panel(submission.appeal_of))

    def _check_appeal(self, submission: Submission, first: Review, now: datetime) -> None:
        if first.closed is None or first.result is None:
            raise ConfigError(f"{first.id} has decided nothing that could be appealed")
        if first.submission.bound.model != submission.bound.model:
            raise NotApproved(f"{first.id} was on {first.submission.bound.model}")
        allowed, by = first.policy.appeals, submission.submitted_by
        if now >= first.closed + timedelta(seconds=allowed.within_s):
            raise NotApproved(f"the time for an appeal against {first.id} has passed: submit the model again")
        is_submitter = "submitter" in allowed.by and same_person(by, first.submission.submitted_by)
        is_member = "member" in allowed.by and any(same_person(by, m.name) for m in self.active.values())
        if not is_submitter and not is_member:
            raise NotApproved(f"{by} may not appeal: the policy lets {' or '.join(allowed.by) or 'nobody'}")
        later = [r for r in self.of_model(submission.bound.model) if r.closed and r.closed > first.closed]
        if later or any(r.submission.appeal_of == first.id and not r.superseded for r in self.reviews.values()):
            raise NotApproved(f"{first.id} was appealed, or decided on anew, before")

    def _check_reachable(self, review: Review) -> None:
        """Raise NotApproved where the panel could never decide."""
        seats = review.seats(self.active)
        needed = review.policy.quorum.of(len(seats))
        if len(seats) < needed:
            raise NotApproved(f"the quorum is {needed}, and {len(seats)} members may vote on it: admit more")
        there = {role for seat in seats for role in seat.roles}
        missing = [role for role in review.policy.must_vote if role not in there]
        if missing:
            raise NotApproved(
                f"nobody who may vote on it has the role {', '.join(missing)}, which must: admit a member"
            )

    def _close(self, event: Event) -> None:
        review = self.review(event.subject)
        if review.submission.bound.policy != (self.policy.digest if self.policy else None):
            raise NotApproved(f"the committee's policy has changed since {review.id} was opened: submit it again")
        result, reason = review.decidable(event.time, self.active)
        if result is None:
            raise NotApproved(f"{review.id} can't be closed: {reason}")
        if result != event.body["result"]:
            raise NotApproved(f"the votes on {review.id} say {result}, not {event.body['result']}")
        review.final = review.tally(self.active)
        review.result, review.closed, review.closed_by = result, event.time, event.actor

    def _hear(self, event: Event) -> None:
        """A signed statement."""
        said = from_values(event.body["statement"])
        if SIGNED[type(said)] != event.kind or said.member not in self.members:
            raise NotApproved("the statement is of another kind, or of nobody who is a member")
        speaker = self.members[said.member]
        if not signed_by(speaker.public_key, payload_of(said).encode(), event.body["signature"]):
            raise NotApproved(f"the signature isn't that of {speaker.name}'s key {speaker.public_key[:12]}")
        if speaker.state != "active":
            raise NotApproved(f"{speaker.name}'s membership is {speaker.state}: this key counts for nothing")
        if said.committee != self.founding or event.actor != speaker.id:
            raise NotApproved("the statement is for another committee")
        expected = self.next_sequence(said.member, subject_of(said))
        if said.sequence != expected:
            raise NotApproved(
                f"the statement has the sequence {said.sequence}, and {speaker.name}'s next is {expected}: it was "
                "replayed, or another was made in between"
            )
        self._act(event, said, speaker)
        self.spoken[said.member, subject_of(said)] = expected + 1

    def _act(self, event: Event, said: AnyStatement, speaker: Member) -> None:
        if isinstance(said, Admission):
            self._need_chair(speaker)
            candidate = self.members.get(said.candidate)
            known = candidate and (candidate.name, candidate.roles, candidate.public_key)
            if candidate is None or candidate.state != "requested" or known != (said.name, said.roles, said.public_key):
                raise NotApproved(f"{said.name} hasn't asked to join with these roles and this key, or was decided on")
            candidate.admitted, candidate.admitted_by = event.time, speaker.id
        elif isinstance(said, Revocation):
            self._revoke(event, said, speaker)
        elif isinstance(said, PolicySetting):
            self._need_chair(speaker)
            self.policy = said.policy
        else:
            self._on_review(event, said, speaker)

    def _revoke(self, event: Event, said: Revocation, speaker: Member) -> None:
        if said.revoked != speaker.id:
            self._need_chair(speaker)
        gone = self.member(said.revoked)
        if gone.state == "revoked":
            raise ConfigError(f"{gone.name}'s membership has ended already")
        chairs = [m for m in self.members.values() if m.state == "active" and CHAIR in m.roles]
        if chairs == [gone]:
            raise NotApproved(
                f"{gone.name} is the only {CHAIR}: nobody could admit members any more; admit another first"
            )
        gone.revoked, gone.revoked_by = event.time, speaker.id

    def _need_chair(self, speaker: Member) -> None:
        if CHAIR not in speaker.roles:
            raise NotApproved(f"{speaker.name} is no {CHAIR}, and this takes one")

    def _on_review(self, event: Event, said: Assessment | Vote, speaker: Member) -> None:
        review = self.review(said.review)
        state = review.state(event.time, self.active)
        if not self.is_open(review, event.time):
            raise NotApproved(f"{review.id} is {state}: it takes no statements any more")
        if said.bound != review.submission.bound:
            raise NotApproved(f"the statement is about something else than what {review.id} is about")
        if self.policy is None or said.bound.policy != self.policy.digest:
            raise NotApproved(f"the committee's policy has changed since {review.id} was opened: submit it again")
        if speaker.id not in review.submission.panel:
            raise NotApproved(f"{speaker.name} doesn't sit on the panel of {review.id}")
        conflict = review.excluded(speaker.name)
        if conflict is not None:
            raise NotApproved(f"{speaker.name} {conflict} and has no part in {review.id}")
        cast = Cast(speaker.id, event.time, said)
        if isinstance(said, Vote):
            if state == "assessing":
                missing = ", ".join(review.open_stages(self.active))
                raise NotApproved(f"votes on {review.id} count once every stage is in: {missing} is missing")
            review.votes[speaker.id] = cast
            return
        self._check_stage(review, said, speaker)
        review.assessments[said.stage, speaker.id] = cast

    def _check_stage(self, review: Review, said: Assessment, speaker: Member) -> None:
        if said.stage not in review.submission.stages:
            raise ConfigError(
                f"{review.id} has no stage {said.stage}: its stages are {', '.join(review.submission.stages)}"
            )
        roles = review.policy.assessors.get(said.stage, ())
        if roles and not set(roles) & set(speaker.roles):
            raise NotApproved(f"{speaker.name} may not assess the stage {said.stage}: that takes {' or '.join(roles)}")
        order = review.submission.stages
        before = {"initial": (), "deliberation": tuple(s for s in order if s != "deliberation")}
        waits = [s for s in before.get(said.stage, ("initial",)) if s in review.open_stages(self.active)]
        if waits:
            raise NotApproved(f"the stage {said.stage} comes after {', '.join(waits)}")


def _days(seconds: float) -> str:
    return f"{seconds / DAY_S:g} days"
