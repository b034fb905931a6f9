"""Deciding on a safety case. `decide` is the one way in: for a single reviewer, and for a committee's closed vote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from raysafe.control.capabilities import Capabilities
from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.committee.book import Book
from raysafe.oversight.committee.events import logged_events
from raysafe.oversight.decisions import CHAIN, Decision, Outcome, is_decision_chain, mandate_problem, terms_of
from raysafe.oversight.safety_case import SafetyCase, case_of, check_failures
from raysafe.records.audit import AuditLog
from raysafe.records.evidence import evidence_digest
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.tables import DecisionRow


def decide(
    store: Store,
    audit: AuditLog,
    reference: str,
    outcome: Outcome,
    *,
    reviewer: str,
    reason: str,
    accept_failures: Sequence[str] = (),
    capabilities: Capabilities | None = None,
    review: str | None = None,
) -> SafetyCase:
    """Approve or reject a version; the audit row is durable before the decision is in force.

    Raises ConfigError without a reviewer or reason, NotApproved where an approval would pass over a failed figure that
    it doesn't name in `accept_failures` (as suite/metric), or where a committee decides here and `review` isn't one
    that it closed with this outcome; ModelError where the model's files have changed or where the reference could mean
    several versions. With a review, its proposal says what is granted and accepted.
    """
    if not reviewer.strip() or not reason.strip():
        raise ConfigError("a decision needs a named reviewer and a reason: give --reviewer and --reason")
    if not is_decision_chain(audit.writer):
        raise ConfigError(f"decisions are kept in the audit chain '{CHAIN}', where serving looks, not '{audit.writer}'")
    registry = Registry(store)
    version = registry.get_exact(reference)
    registry.check_files(version)
    # alone from the evidence to the decision: of two reviewers, log and store name the same one as the last
    with store.session(alone=True) as session:
        case = case_of(session, version)
        seen = evidence_digest(case.evidence)
        book = Book.of(logged_events(audit.folder))
        decision = Decision(
            label=version.label,
            outcome=outcome,
            reviewer=reviewer,
            reason=reason,
            accepted_failures=tuple(accept_failures),
            capabilities=capabilities or Capabilities(),
            evidence_digest=seen,
            audit_hash="",
            time=case.time,
        )
        if review is None and book.stands:
            raise NotApproved(
                f"a committee decides here, and nobody alone: submit it by `raysafe committee submit {version.label}`"
            )
        if review is not None:
            decision = _as_voted(book, case, decision, review)
        problem = mandate_problem(book, version.digest, decision)
        if problem is not None:
            raise NotApproved(problem)
        check_failures(case, outcome, decision.accepted_failures)
        granted = decision.capabilities.model_dump(mode="json")
        accepted, terms = list(decision.accepted_failures), decision.terms.model_dump(mode="json")
        details = {
            "model": version.label,
            "digest": version.digest,
            "reason": reason,
            "evidence": decision.evidence_digest,
            "accepted_failures": accepted,
            "capabilities": granted,
            "terms": terms,
        }
        row = audit.append(outcome, reviewer, version.label, details)
        session.add(
            DecisionRow(
                version_id=version.id,
                outcome=outcome,
                reviewer=reviewer,
                reason=reason,
                accepted_failures=accepted,
                capabilities=granted,
                terms=terms,
                evidence_digest=decision.evidence_digest,
                audit_hash=row.hash,
                time=datetime.now(UTC),
            )
        )
        session.flush()
        return case_of(session, version)


def named_reviewer(given: str | None) -> str:
    """The reviewer given, or RAYSAFE_REVIEWER; raises ConfigError, for a decision is never anonymous."""
    name = (given or os.environ.get("RAYSAFE_REVIEWER", "")).strip()
    if not name:
        raise ConfigError("who decides? Give --reviewer NAME or set RAYSAFE_REVIEWER")
    return name


def _as_voted(book: Book, case: SafetyCase, decision: Decision, review_id: str) -> Decision:
    """The decision with what the review's proposal says; raises where the review can't decide, or has before."""
    review, label = book.review(review_id), case.version.label
    if review.result is None:
        raise NotApproved(f"{review_id} isn't closed: `raysafe committee close {review_id}`")
    last = [other for other in book.of_model(review.submission.bound.model) if other.result is not None][-1]
    if last is not review or any(d.terms.review == review_id for d in case.history):
        raise NotApproved(f"{review_id} has decided on {label} before, or was decided on anew: it decides once")
    if review.result == "rejected":
        bound = {"evidence_digest": review.submission.bound.evidence}
        return decision.model_copy(update={"terms": terms_of(review), **bound})
    proposal = review.submission.proposal
    said = {"accepted_failures": proposal.accept_failures, "capabilities": proposal.capabilities}
    return decision.model_copy(update={"terms": terms_of(review), **said})
