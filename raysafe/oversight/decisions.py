"""Decisions, in the store and in the audit log.

The store says what is in force, but whoever can write its file can write a decision, or take one away. The log is
chained and anchored: a decision counts only where the newest row on it there says the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field
from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from raysafe.config import Config
from raysafe.control.capabilities import Capabilities
from raysafe.errors import NotApproved, StorageError
from raysafe.oversight.committee.book import Book
from raysafe.oversight.committee.events import logged_events
from raysafe.oversight.committee.reviews import Review
from raysafe.records.audit_chain import SUFFIX, read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.tables import DecisionRow, VersionRow

Outcome = Literal["approved", "rejected"]
CHAIN = "review"
"""Writer of decisions in the audit log; review-2, … where several decide at a time."""


class Terms(Config):
    """What a committee bound its approval to; nothing where a single reviewer decided."""

    review: str | None = Field(default=None, description="The committee's review that decided.")
    expires: datetime | None = Field(default=None, description="From then on the approval counts for nothing.")
    guards: str | None = Field(default=None, description="Digest of the policy of guards that it is served under.")
    files: dict[str, str] = Field(default_factory=dict, description="Evidence files by address, with their sha256.")
    conditions: tuple[str, ...] = ()
    monitored: tuple[str, ...] = Field(default=(), description="Metrics of the monitor that must be watched.")


class Decision(Config):
    """One decision, as it was made."""

    label: str = Field(description="The version that was decided on.")
    outcome: Outcome
    reviewer: str
    reason: str
    accepted_failures: tuple[str, ...] = ()
    capabilities: Capabilities
    evidence_digest: str = Field(description="Digest of the evidence that the reviewer saw.")
    terms: Terms = Field(default_factory=Terms)
    audit_hash: str = Field(description="Hash of the decision's row in the audit log.")
    time: datetime


Newest = dict[str, dict[str, Decision]]
"""Digest of files -> label -> its newest decision."""


def decisions_on(session: Session, digest: str) -> list[Decision]:
    """Decisions on these files under any name, oldest first."""
    return [decision for _, decision in _read(session, VersionRow.digest == digest)]


def newest_decisions(session: Session) -> Newest:
    """The decisions in force of all versions."""
    newest: Newest = {}
    for digest, decision in _read(session, true()):
        newest.setdefault(digest, {})[decision.label] = decision
    return newest


def is_decision_chain(writer: str) -> bool:
    return re.fullmatch(rf"{CHAIN}(-\d+)?", writer) is not None


class Logged(NamedTuple):
    """A decision's row in the audit log."""

    chain: str
    row: dict[str, Any]

    @property
    def label(self) -> str:
        return str(self.row["details"].get("model"))

    def __str__(self) -> str:
        noun = "approval" if self.row["kind"] == "approved" else "rejection"
        return f"{self.row['actor']}'s {noun} of {self.label} (row {self.row['seq']} of '{self.chain}')"


class DecisionLog:
    """The newest decision on each version in an audit log, and what is wrong with the chains that hold them."""

    def __init__(self, folder: Path) -> None:
        """Reads the chains of decisions alone: a gateway's grow with every request, these with every decision.

        `decide` writes to no others. Raises StorageError where the log or its anchors can't be read.
        """
        self.folder = folder
        reports = verify(folder, only=is_decision_chain)
        self.problems = [f"{report.writer}: {problem}" for report in reports for problem in report.problems]
        self.newest: dict[str, dict[str, Logged]] = {}
        for report in reports:
            self._read(folder / f"{report.writer}{SUFFIX}", report.writer)

    def objection(self, digest: str, stored: Mapping[str, Decision]) -> str | None:
        """Why the store's decisions on these files, by label, can't be relied on; None where the log confirms them."""
        if self.problems:
            return (
                f"the audit log of decisions in {self.folder} is broken ({'; '.join(self.problems)}): see `{_VERIFY}`"
            )
        return next(self._objections(digest, stored), None)

    def objections(self, newest: Newest) -> list[str]:
        """All that the store and the log don't agree on."""
        digests = sorted(newest.keys() | self.newest.keys())
        texts = [text for digest in digests for text in self._objections(digest, newest.get(digest, {}))]
        if self._committee[1]:
            return [*texts, self._committee[1]]
        voted = [(digest, d) for digest in digests for d in newest.get(digest, {}).values() if d.terms.review]
        return [*texts, *filter(None, (self.mandate(digest, decision) for digest, decision in voted))]

    def mandate(self, digest: str, decision: Decision) -> str | None:
        """Why a decision on these files isn't that of whoever decides here; None where it is.

        A committee's votes are counted anew from its log, each signature checked: who can write store and log, and
        has no member's key, can't make an approval.
        """
        book, problem = self._committee
        if book is None:
            return problem
        return mandate_problem(book, digest, decision)

    @cached_property
    def _committee(self) -> tuple[Book | None, str | None]:
        try:
            return Book.of(logged_events(self.folder)), None
        except (StorageError, NotApproved) as error:
            return None, str(error)

    def _objections(self, digest: str, stored: Mapping[str, Decision]) -> Iterator[str]:
        logged = self.newest.get(digest, {})
        for label in sorted(stored.keys() | logged.keys()):
            text = self._compare(digest, label, stored.get(label), logged.get(label))
            if text:
                yield text

    def _compare(self, digest: str, label: str, decision: Decision | None, logged: Logged | None) -> str | None:
        # an approval that the store doesn't hold lets nothing be served: the store may be a new one
        if decision is None:
            if logged is None or logged.row["kind"] == "approved":
                return None
            return (
                f"the audit log in {self.folder} holds {logged}, files {digest[:12]}, and the store no decision of "
                f"{label} on them: {_MEND}"
            )
        said = f"the store says that {decision.reviewer} {decision.outcome} {label} (row {decision.audit_hash[:12]})"
        if logged is None:
            return f"{said}, and the audit log in {self.folder} knows nothing of it: set RAYSAFE_AUDIT, or {_MEND}"
        if logged.row["hash"] != decision.audit_hash:
            return f"{said}, and the last word in the audit log in {self.folder} is {logged}: {_MEND}"
        changed = ", ".join(name for name, value in _content(logged).items() if value != getattr(decision, name))
        return f"{said}, and {logged} in the audit log has another {changed}: {_MEND}" if changed else None

    def _read(self, path: Path, chain: str) -> None:
        if not path.exists():
            return
        # in a chain the later row is the newer one, whatever the clock said; between chains the clock decides
        last = {}
        for _, row in read_rows(path):
            if row is not None and row["kind"] in get_args(Outcome) and isinstance(row["details"], dict):
                found = Logged(chain, row)
                last[str(row["details"].get("digest")), found.label] = found
        for (digest, label), found in last.items():
            known = self.newest.setdefault(digest, {})
            if label not in known or known[label].row["time"] < found.row["time"]:
                known[label] = found


def terms_of(review: Review) -> Terms:
    """What a closed review's decision is bound to; only an approval expires."""
    submission = review.submission
    assert review.closed is not None
    valid = timedelta(seconds=submission.proposal.valid_s)
    return Terms(
        review=review.id,
        expires=review.closed + valid if review.result == "approved" else None,
        guards=submission.bound.guards,
        files=submission.bound.files,
        conditions=submission.proposal.conditions,
        monitored=submission.proposal.monitored,
    )


def mandate_problem(book: Book, digest: str, decision: Decision) -> str | None:
    """See DecisionLog.mandate."""
    label, again = decision.label, f"submit it by `raysafe committee submit {decision.label}`"
    if decision.terms.review is None:
        if not book.stands:
            return None
        return f"{label} was {decision.outcome} by {decision.reviewer} alone, and a committee decides here: {again}"
    review = book.reviews.get(decision.terms.review)
    if review is None or review.result is None:
        return f"no closed review of the committee is behind the decision on {label} ({decision.terms.review}): {again}"
    bound, proposal = review.submission.bound, review.submission.proposal
    granted = proposal.capabilities, proposal.accept_failures
    if review.result == "rejected":
        granted = Capabilities(), ()
    decided = (label, digest, decision.outcome, decision.evidence_digest, decision.terms)
    voted = (bound.model, bound.weights, review.result, bound.evidence, terms_of(review))
    if decided != voted or (decision.capabilities, decision.accepted_failures) != granted:
        return f"the decision on {label} isn't the one that the committee voted for in {review.id}: {again}"
    if decision.outcome == "approved" and (book.policy is None or bound.policy != book.policy.digest):
        return f"the committee's policy has changed since {label} was approved in {review.id}: {again}"
    return None


_VERIFY = "raysafe audit verify"
_MEND = "one of the two was tampered with or restored from elsewhere; mend it, or decide again"


def _content(logged: Logged) -> dict[str, Any]:
    """A row's fields as the store's decision must have them."""
    details = logged.row["details"]
    return {
        "outcome": logged.row["kind"],
        "reviewer": logged.row["actor"],
        "reason": details.get("reason"),
        "accepted_failures": tuple(details.get("accepted_failures", ())),
        "capabilities": Capabilities.model_validate(details.get("capabilities", {})),
        "evidence_digest": details.get("evidence"),
        "terms": Terms.model_validate(details.get("terms", {})),
    }


def _read(session: Session, where: ColumnElement[bool]) -> Iterator[tuple[str, Decision]]:
    """Digest and decision, oldest first."""
    query = (
        select(DecisionRow, VersionRow.name, VersionRow.version, VersionRow.digest)
        .join(VersionRow, VersionRow.id == DecisionRow.version_id)
        .where(where)
        .order_by(DecisionRow.id)
    )
    columns = Decision.model_fields.keys() - {"label"}
    for row, name, version, digest in session.execute(query):
        yield digest, Decision(label=f"{name}:{version}", **{column: getattr(row, column) for column in columns})
