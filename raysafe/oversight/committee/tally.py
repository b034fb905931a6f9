"""Counting votes: quorum, roles, veto and majority, as pure functions of the policy and of who sits on the panel."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from raysafe.oversight.committee.policy import SHARES, CommitteePolicy

Choice = Literal["approve", "reject", "abstain"]
Result = Literal["approved", "rejected"]


class Seat(NamedTuple):
    """A member who may vote, and how; None while the member hasn't."""

    member: str
    roles: frozenset[str]
    choice: Choice | None = None


class Tally(NamedTuple):
    """How the votes stand."""

    approve: int
    reject: int
    abstain: int
    eligible: int
    quorum: int
    vetoes: tuple[str, ...]
    """Members of a veto role who rejected."""
    missing_roles: tuple[str, ...]
    """Roles that must vote, and of which nobody has."""
    outcome: Result | None
    """What it would be if the vote ended now; None without a quorum or a role that must vote."""
    settled: bool
    """Whether no vote that is still out could change it."""

    @property
    def voted(self) -> int:
        return self.approve + self.reject + self.abstain


def count(policy: CommitteePolicy, seats: Sequence[Seat]) -> Tally:
    """The tally. A veto rejects whatever else was voted; what isn't a majority of approvals is a rejection.

    It is settled where the rest, all approving, and the rest, all rejecting, would end alike: between those two the
    outcome is monotone, for an approval more never makes a rejection of an approval.
    """
    outcome = _outcome(policy, seats)
    ends = {_outcome(policy, [seat._replace(choice=seat.choice or rest) for seat in seats]) for rest in _REST}
    choices = [seat.choice for seat in seats]
    return Tally(
        approve=choices.count("approve"),
        reject=choices.count("reject"),
        abstain=choices.count("abstain"),
        eligible=len(seats),
        quorum=policy.quorum.of(len(seats)),
        vetoes=_vetoes(policy, seats),
        missing_roles=_missing(policy, seats),
        outcome=outcome,
        settled=outcome is not None and ends == {outcome},
    )


def is_majority(policy: CommitteePolicy, approve: int, reject: int) -> bool:
    """Whether the approvals are one, of approvals and rejections; abstentions don't count."""
    if approve + reject == 0:
        return False
    share = Fraction(approve, approve + reject)
    return share > Fraction(1, 2) if policy.majority == "simple" else share >= SHARES[policy.majority]


_REST: tuple[Choice, ...] = ("approve", "reject")


def _outcome(policy: CommitteePolicy, seats: Sequence[Seat]) -> Result | None:
    if _vetoes(policy, seats):
        return "rejected"
    choices = [seat.choice for seat in seats if seat.choice]
    if len(choices) < policy.quorum.of(len(seats)) or _missing(policy, seats):
        return None
    return "approved" if is_majority(policy, choices.count("approve"), choices.count("reject")) else "rejected"


def _vetoes(policy: CommitteePolicy, seats: Sequence[Seat]) -> tuple[str, ...]:
    return tuple(seat.member for seat in seats if seat.choice == "reject" and seat.roles & {*policy.veto})


def _missing(policy: CommitteePolicy, seats: Sequence[Seat]) -> tuple[str, ...]:
    there = {role for seat in seats if seat.choice for role in seat.roles}
    return tuple(role for role in policy.must_vote if role not in there)
