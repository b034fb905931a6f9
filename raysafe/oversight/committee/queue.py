"""Reading the committee, and casting from a signed payload: what a command and a page are made of."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from raysafe.errors import ConfigError
from raysafe.oversight.committee.book import Book, Member
from raysafe.oversight.committee.committee import Committee
from raysafe.oversight.committee.policy import CommitteePolicy, Stage
from raysafe.oversight.committee.reviews import Cast, Review, State
from raysafe.oversight.committee.statements import (
    Assessment,
    Bound,
    Finding,
    OnReview,
    Proposal,
    Vote,
    payload_of,
    read_statement,
)
from raysafe.oversight.committee.tally import Choice, Tally
from raysafe.records.store import Store


class Said(NamedTuple):
    """A vote or an assessment, for showing; `choice` is the finding of an assessment."""

    member: str
    name: str
    roles: tuple[str, ...]
    choice: str
    reason: str
    time: datetime


class StageState(NamedTuple):
    """A stage and what was said of it."""

    stage: Stage
    done: bool
    assessments: tuple[Said, ...]


class ReviewState(NamedTuple):
    """A review as it stands."""

    id: str
    model: str
    digest: str
    state: State
    opened: datetime
    deadline: datetime
    submitted_by: str
    reason: str
    stages: tuple[StageState, ...]
    tally: Tally
    votes: tuple[Said, ...]
    excluded: dict[str, str]
    """Members on no seat, by name, and why."""
    waits_for: tuple[str, ...]
    """Members who may vote and haven't, by name."""
    closable: str
    """Why it can't be closed now; empty where it can."""
    proposal: Proposal
    bound: Bound
    guards_label: str
    appeal_of: str | None
    closed: datetime | None
    changed: str | None
    """What isn't any more as it was submitted, of an open one; the weights are looked at when it is closed."""


def review_queue(store: Store, *, everything: bool = False, audit: Path | None = None) -> list[ReviewState]:
    """Open reviews, the nearest deadline first; with everything the others after them, the newest first."""
    committee = Committee(store, audit)
    book, now = committee.book(), committee.now()
    still = [review for review in book.reviews.values() if book.is_open(review, now)]
    done = [review for review in book.reviews.values() if review not in still] if everything else []
    still.sort(key=lambda review: review.submission.deadline)
    return [_state(committee, book, review, now) for review in [*still, *reversed(done)]]


def review_state(store: Store, review_id: str, audit: Path | None = None) -> ReviewState:
    """One review; raises ConfigError for an unknown one."""
    committee = Committee(store, audit)
    book = committee.book()
    return _state(committee, book, book.review(review_id), committee.now())


def members(store: Store, audit: Path | None = None) -> list[Member]:
    """All who are, asked to be, or were members, in the order in which they asked."""
    return list(Committee(store, audit).book().members.values())


def standing_policy(store: Store, audit: Path | None = None) -> CommitteePolicy | None:
    return Committee(store, audit).book().policy


def payload_to_sign(
    store: Store,
    review_id: str,
    member: str,
    *,
    kind: Literal["vote", "assessment"] = "vote",
    choice: Choice | None = None,
    stage: Stage | None = None,
    finding: Finding | None = None,
    reason: str,
    audit: Path | None = None,
) -> str:
    """The text whose UTF-8 bytes a member signs; raises ConfigError where something is missing."""
    book = Committee(store, audit).book()
    speaker, review = book.member(member), book.review(review_id)
    assert book.founding is not None
    common = {
        "committee": book.founding,
        "member": speaker.id,
        "sequence": book.next_sequence(speaker.id, review_id),
        "review": review_id,
        "bound": review.submission.bound,
        "reason": reason,
    }
    if kind == "vote":
        if choice is None:
            raise ConfigError("choice: say approve, reject or abstain")
        return payload_of(Vote(choice=choice, **common))
    if stage is None or finding is None:
        raise ConfigError("an assessment needs a stage, and a finding: adequate or inadequate")
    return payload_of(Assessment(stage=stage, finding=finding, **common))


def submit_signed(store: Store, payload: str, signature: str, audit: Path | None = None) -> ReviewState:
    """Cast a vote or an assessment; raises as Committee.put_signed does."""
    said = read_statement(payload)
    if not isinstance(said, OnReview):
        raise ConfigError("this is neither a vote nor an assessment")
    Committee(store, audit).put_signed(payload, signature.strip())
    return review_state(store, said.review, audit)


def close_review(store: Store, review_id: str, *, by: str, audit: Path | None = None) -> ReviewState:
    """See Committee.close."""
    Committee(store, audit).close(review_id, by=by)
    return review_state(store, review_id, audit)


def _state(committee: Committee, book: Book, review: Review, now: datetime) -> ReviewState:
    submission, active = review.submission, book.active
    names = {member.id: member for member in book.members.values()}
    excluded = {m.name: why for m in active.values() if (why := review.excluded(m.name)) is not None}
    for member, known in active.items():
        if member not in submission.panel:
            excluded[known.name] = "doesn't sit on the panel"
    stages = tuple(
        StageState(stage, bool(casts), tuple(_said(names, cast) for cast in casts))
        for stage in submission.stages
        for casts in [review.stage_casts(stage, active)]
    )
    return ReviewState(
        id=review.id,
        model=submission.bound.model,
        digest=submission.bound.weights,
        state=review.state(now, active),
        opened=review.opened,
        deadline=submission.deadline,
        submitted_by=submission.submitted_by,
        reason=submission.reason,
        stages=stages,
        tally=review.tally(active),
        votes=tuple(_said(names, cast) for cast in review.votes.values()),
        excluded=excluded,
        waits_for=tuple(active[seat.member].name for seat in review.seats(active) if seat.choice is None),
        closable=review.decidable(now, active)[1],
        proposal=submission.proposal,
        bound=submission.bound,
        guards_label=submission.guards_label,
        appeal_of=submission.appeal_of,
        closed=review.closed,
        changed=committee.why_changed(review) if book.is_open(review, now) else None,
    )


def _said(names: dict[str, Member], cast: Cast) -> Said:
    said, member = cast.said, names[cast.member]
    choice = said.choice if isinstance(said, Vote) else said.finding
    return Said(member.id, member.name, member.roles, choice, said.reason, cast.time)
